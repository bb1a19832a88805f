# SPDX-License-Identifier: Apache-2.0
"""Edits: what follows from what was, and where an error points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import tests.support.stage as s
from tests.support.stage import VIP
from xdpdirector.errors import ConflictError, InvalidRequestError, NotFoundError
from xdpdirector.model import AdminState, BackendSpec, Scheduler, ServiceSpec
from xdpdirector.model.service import MOST_BACKENDS
from xdpdirector.state import edits
from xdpdirector.state.edits import Services

WEB = s.service("web1", "web2", scheduler="mh", check=s.CHECK, timeouts={"tcp": "5m"})
MAIL = s.service("web3", listener=f"{VIP}:25/tcp")
SERVICES: Services = {"web": WEB, "mail": MAIL}
FULL = s.service(
    backends={
        f"host{number}": {"address": f"198.51.{100 + number // 128}.{1 + number % 128}"}
        for number in range(MOST_BACKENDS)
    }
)

Edit = Callable[[Services], Services]


def with_backend(name: str, **fields: Any) -> ServiceSpec:
    """`web` with this backend put over what stands there."""
    return WEB.model_copy(update={"backends": WEB.backends | {name: s.backend(name, **fields)}})


ROWS: dict[str, tuple[Edit, Services]] = {
    "create a service": (
        lambda now: edits.create_service(now, "shop", s.service(listener=f"{VIP}:81/tcp")),
        {**SERVICES, "shop": s.service(listener=f"{VIP}:81/tcp")},
    ),
    "replace a service: what is left out is the default": (
        lambda now: edits.replace_service(now, "web", s.service("web1")),
        {**SERVICES, "web": s.service("web1")},
    ),
    "patch a service: what is left out stays": (
        lambda now: edits.patch_service(now, "web", {"scheduler": "wlc"}),
        {**SERVICES, "web": WEB.model_copy(update={"scheduler": Scheduler.WLC})},
    ),
    "patch a service: null is the default": (
        lambda now: edits.patch_service(now, "web", {"check": None}),
        {**SERVICES, "web": WEB.model_copy(update={"check": None})},
    ),
    "patch a service: into a backend": (
        lambda now: edits.patch_service(now, "web", {"backends": {"web2": {"weight": 5}}}),
        {**SERVICES, "web": with_backend("web2", weight=5)},
    ),
    "patch a service: nothing": (lambda now: edits.patch_service(now, "web", {}), SERVICES),
    "delete a service": (lambda now: edits.delete_service(now, "web"), {"mail": MAIL}),
    "create a backend": (
        lambda now: edits.create_backend(now, "web", "web4", s.backend("web4")),
        {**SERVICES, "web": with_backend("web4")},
    ),
    "patch a backend": (
        lambda now: edits.patch_backend(now, "web", "web1", {"admin": AdminState.DRAIN}),
        {**SERVICES, "web": with_backend("web1", admin="drain")},
    ),
    "delete a backend": (
        lambda now: edits.delete_backend(now, "mail", "web3"),
        {**SERVICES, "mail": s.service(listener=f"{VIP}:25/tcp")},
    ),
}


@pytest.mark.parametrize(("edit", "after"), ROWS.values(), ids=ROWS)
def test_an_edit_makes_new_services_and_leaves_the_old_alone(edit: Edit, after: Services) -> None:
    before = dict(SERVICES)
    web = WEB.model_dump()

    edited = edit(before)

    assert edited == after
    assert list(edited.get("web", WEB).backends)[:2] in (["web1", "web2"], ["web1"])
    assert before == SERVICES
    assert web == WEB.model_dump()


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda now: edits.find_service(now, "shop"), id="find a service"),
        pytest.param(lambda now: edits.find_backend(now, "shop", "web1"), id="find a backend, no service"),
        pytest.param(lambda now: edits.find_backend(now, "web", "web3"), id="find a backend of another"),
        pytest.param(lambda now: edits.replace_service(now, "shop", MAIL), id="replace a service"),
        pytest.param(lambda now: edits.patch_service(now, "shop", {}), id="patch a service"),
        pytest.param(lambda now: edits.delete_service(now, "shop"), id="delete a service"),
        pytest.param(
            lambda now: edits.create_backend(now, "shop", "web1", s.backend("web1")), id="create a backend"
        ),
        pytest.param(lambda now: edits.patch_backend(now, "web", "web3", {}), id="patch a backend"),
        pytest.param(lambda now: edits.delete_backend(now, "web", "web3"), id="delete a backend"),
    ],
)
def test_what_is_not_there_is_named(edit: Callable[[Services], object]) -> None:
    with pytest.raises(NotFoundError, match=r"'shop'|'web3' in service 'web'"):
        edit(SERVICES)


@pytest.mark.parametrize(
    ("edit", "words", "pointer"),
    [
        pytest.param(
            lambda now: edits.create_service(now, "web", MAIL),
            ["service 'web' already"],
            None,
            id="a service of that name",
        ),
        pytest.param(
            lambda now: edits.create_backend(now, "web", "web1", s.backend("web4")),
            ["backend 'web1' in service 'web' already"],
            None,
            id="a backend of that name",
        ),
        pytest.param(
            lambda now: edits.create_service(now, "shop", s.service("web4")),
            [f"{VIP}:80/tcp", "'web'", "'shop'"],
            "/listeners",
            id="create with a taken listener",
        ),
        pytest.param(
            lambda now: edits.patch_service(now, "mail", {"listeners": [f"{VIP}:80/tcp"]}),
            [f"{VIP}:80/tcp", "'web'", "'mail'"],
            "/listeners",
            id="patch to a taken listener",
        ),
        pytest.param(
            lambda now: edits.replace_service(now, "mail", s.service()),
            [f"{VIP}:80/tcp", "'web'", "'mail'"],
            "/listeners",
            id="replace with a taken listener",
        ),
    ],
)
def test_what_is_taken_is_a_conflict_that_names_all(
    edit: Edit, words: list[str], pointer: str | None
) -> None:
    with pytest.raises(ConflictError) as caught:
        edit(SERVICES)

    assert [word for word in words if word not in caught.value.detail] == []
    assert caught.value.pointer == pointer


def patch_web(**patch: Any) -> Edit:
    return lambda now: edits.patch_service(now, "web", patch)


def patch_web1(**patch: Any) -> Edit:
    return lambda now: edits.patch_backend(now, "web", "web1", patch)


@pytest.mark.parametrize(
    ("edit", "pointer", "word"),
    [
        pytest.param(patch_web(scheduler="best"), "/scheduler", "'best'", id="a value"),
        pytest.param(patch_web(check={"path": "/x"}), "/check/path", "path", id="a field of another check"),
        pytest.param(patch_web(check={"type": "http", "path": "x"}), "/check/path", "'x'", id="in a check"),
        pytest.param(patch_web(check={"type": "smoke"}), "/check/type", "'smoke'", id="a kind of check"),
        pytest.param(patch_web(listeners=[f"{VIP}:0/tcp"]), "/listeners/0", "port '0'", id="an item"),
        pytest.param(patch_web(listeners=None), "/listeners", "missing", id="a field that must be"),
        pytest.param(patch_web(**{"a/b~": 1}), "/a~1b~0", "a/b~", id="an unknown key, escaped"),
        pytest.param(
            patch_web(backends={"a b": {"address": "192.0.2.24"}}), "/backends/a b", "'a b'", id="a bad name"
        ),
        pytest.param(
            patch_web(backends={"web2": {"weight": -1}}), "/backends/web2/weight", "-1", id="in a backend"
        ),
        pytest.param(
            patch_web(backends={"web2": {"address": "192.0.2.21"}}), "", "'web1' and 'web2'", id="one address"
        ),
        pytest.param(patch_web1(weight=65536), "/weight", "65536", id="a weight"),
        pytest.param(patch_web1(port=80), "/port", "no port", id="a backend's port"),
        pytest.param(patch_web1(address=None), "/address", "missing", id="no address"),
        pytest.param(patch_web1(address=str(VIP)), "/address", "own VIP", id="the VIP"),
        pytest.param(patch_web1(address="192.0.2.22"), "/address", "'web2'", id="an address that is taken"),
        pytest.param(
            lambda now: edits.create_backend(now, "web", "web4", s.backend("web1")),
            "/address",
            "'web1' and 'web4'",
            id="create with an address that is taken",
        ),
        pytest.param(
            lambda now: edits.create_backend({"web": FULL}, "web", "web4", s.backend("web4")),
            "",
            "4096",
            id="one backend too many",
        ),
    ],
)
def test_what_is_wrong_is_pointed_at_in_what_was_handed_in(edit: Edit, pointer: str, word: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        edit(SERVICES)

    assert caught.value.pointer == pointer
    assert word in caught.value.detail


def test_a_backend_that_was_validated_already_stays_what_it_is() -> None:
    spec = BackendSpec.model_construct(_fields_set={"address"}, address=s.HOSTS["web4"], weight=1)

    edited = edits.create_backend(SERVICES, "web", "web4", spec)

    assert edited["web"].backends["web4"] is spec


@pytest.mark.parametrize(
    ("scheduler", "patch", "pointer", "word"),
    [
        pytest.param("mh", {"ring_slots": 4093}, "/ring_slots", "16381 slots", id="another size"),
        pytest.param("mh", {"hash": "address"}, "/hash", "addresses and ports", id="mh without ports"),
        pytest.param("sh", {"hash": "flow"}, "/hash", "addresses alone", id="sh with ports"),
        pytest.param("mh", {"scheduler": "sh"}, "/scheduler", "say `hash: flow`", id="mh to sh"),
        pytest.param("sh", {"scheduler": "mh"}, "/scheduler", "say `hash: address`", id="sh to mh"),
    ],
)
def test_what_says_which_slot_a_flow_has_stays_with_the_ring(
    scheduler: str, patch: dict[str, str], pointer: str, word: str
) -> None:
    services = {"web": s.service("web1", scheduler=scheduler)}

    with pytest.raises(ConflictError, match=word) as raised:
        edits.patch_service(services, "web", patch)

    assert raised.value.pointer == pointer
    assert "such as wlc" in raised.value.detail


@pytest.mark.parametrize(
    ("scheduler", "patch"),
    [
        pytest.param("mh", {"scheduler": "sh", "hash": "flow"}, id="mh to sh that hashes ports"),
        pytest.param("sh", {"scheduler": "mh", "hash": "address"}, id="sh to mh that does not"),
        pytest.param("mh", {"hash": "flow"}, id="what was so by default"),
        pytest.param("mh", {"scheduler": "wlc", "ring_slots": 4093}, id="to one without a ring"),
    ],
)
def test_a_ring_may_change_what_moves_no_flow(scheduler: str, patch: dict[str, str]) -> None:
    services = {"web": s.service("web1", scheduler=scheduler)}

    after = edits.patch_service(services, "web", patch)["web"]

    assert {field: after.model_dump()[field] for field in patch} == patch


def test_a_service_that_gets_a_ring_may_choose_its_size() -> None:
    after = edits.patch_service(SERVICES, "mail", {"scheduler": "mh", "ring_slots": 4093})

    assert after["mail"].ring_slots == 4093


CHECKED = s.service("web1", listener=f"{VIP}:80/tcp", check={"type": "tcp"})
FIRST_443 = [f"{VIP}:443/tcp", f"{VIP}:80/tcp"]


def replaced_by(**fields: Any) -> Edit:
    """The same document once more, with other fields."""
    document = CHECKED.model_dump(mode="json") | fields
    return lambda now: edits.replace_all(now, {"web": ServiceSpec.model_validate(document)})


@pytest.mark.parametrize(
    "edit",
    [
        lambda now: edits.patch_service(now, "web", {"listeners": FIRST_443}),
        replaced_by(listeners=FIRST_443),
    ],
    ids=["patch", "everything"],
)
def test_another_order_of_the_listeners_changes_no_check(edit: Edit) -> None:
    after = edit({"web": CHECKED})

    assert after["web"].check_port == 80
    assert [str(listener) for listener in after["web"].listeners] == FIRST_443
    assert edit(after) == after


@pytest.mark.parametrize(
    ("patch", "port"),
    [
        pytest.param({"listeners": [f"{VIP}:443/tcp"]}, 443, id="its listener goes"),
        pytest.param({"listeners": FIRST_443, "check": {"port": 443}}, 443, id="another port is named"),
        pytest.param({"listeners": [f"{VIP}:79-81/tcp", f"{VIP}:443/tcp"]}, 443, id="only a range has it"),
        pytest.param({"listeners": FIRST_443[::-1]}, 80, id="it stays the first"),
    ],
)
def test_the_check_asks_another_port_when_that_is_wanted(patch: dict[str, Any], port: int) -> None:
    assert edits.patch_service({"web": CHECKED}, "web", patch)["web"].check_port == port
