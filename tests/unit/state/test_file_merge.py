# SPDX-License-Identifier: Apache-2.0
"""How a changed configuration file meets what was changed at run time: a three-way merge that cuts nobody off."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.stage import HOSTS, OTHER_VIP, VIP
from xdpdirector.errors import ConfigurationError, ConflictError, DirectorError
from xdpdirector.model import AdminState, ServiceSpec
from xdpdirector.state.file_merge import MergeContext, Merged, merge_file

HTTP, HTTPS, MAIL = f"{VIP}:80/tcp", f"{VIP}:443/tcp", f"{VIP}:25/tcp"
CHECK = {"type": "http", "path": "/healthz", "interval": "2s"}
FIVE = "has 5 connections"

Document = dict[str, Any]


def web(*names: str, **changes: Any) -> Document:
    """A service of these hosts; `changes`: fields of it, or of its backends by their names."""
    backends = {name: {"address": str(HOSTS[name])} | changes.pop(name, {}) for name in names}
    return {"listeners": [HTTP], "check": CHECK, **changes, "backends": backends}


def specs(**services: Document) -> dict[str, ServiceSpec]:
    return {name: ServiceSpec.model_validate(each) for name, each in services.items()}


def merged(
    before: Document | None,
    now: Document | None,
    present: Document | None,
    busy: tuple[str, ...] = (),
    leaving: tuple[str, ...] = (),
) -> Merged:
    """Of the service `web` as each of them has it."""
    file, was, wanted = (specs(web=each) if each else {} for each in (now, before, present))
    context = MergeContext(
        before=was,
        leaving={("web", name) for name in leaving},
        busy=lambda key: FIVE if key[1] in busy else "",
    )
    return merge_file(wanted, file, context)


TWO = web("web1", "web2")
DRAIN, MAINTENANCE, ENABLED = ({"admin": each} for each in ("drain", "maintenance", "enabled"))
FASTER = CHECK | {"interval": "600ms", "timeout": "500ms"}
ROWS: dict[str, tuple[Document | None, Document | None, Document | None, Document | None]] = {
    # before, now, present -> wanted
    "what the file changes": (
        TWO,
        web("web1", "web2", scheduler="rr"),
        TWO,
        web("web1", "web2", scheduler="rr"),
    ),
    "what was changed at run time": (
        TWO,
        web("web1", "web2", on_empty="drop"),
        web("web1", "web2", scheduler="rr", web2={"weight": 0}),
        web("web1", "web2", scheduler="rr", on_empty="drop", web2={"weight": 0}),
    ),
    "both change one value": (
        TWO,
        web("web1", "web2", web1={"weight": 3}),
        web("web1", "web2", web1={"weight": 9}),
        web("web1", "web2", web1={"weight": 3}),
    ),
    "both change one check": (
        TWO,
        web("web1", "web2", check=FASTER),
        web("web1", "web2", check=CHECK | {"path": "/ready"}),
        web("web1", "web2", check=FASTER | {"path": "/ready"}),
    ),
    "another type of check": (
        TWO,
        web("web1", "web2", check={"type": "tcp"}),
        web("web1", "web2", check=CHECK | {"path": "/ready"}),
        web("web1", "web2", check={"type": "tcp"}),
    ),
    "a check that the file does without": (
        TWO,
        web("web1", "web2", check=None),
        web("web1", "web2", check=CHECK | {"path": "/ready"}),
        web("web1", "web2", check=None),
    ),
    "what the file states as it was by default": (
        TWO,
        web("web1", "web2", scheduler="wlc", web1={"weight": 1}),
        web("web1", "web2", scheduler="lc", web1={"weight": 9}),
        web("web1", "web2", scheduler="lc", web1={"weight": 9}),
    ),
    "a backend of the file": (TWO, web("web1", "web2", "web3"), TWO, web("web1", "web2", "web3")),
    "a backend of run time": (
        TWO,
        web("web1", "web2", on_empty="drop"),
        web("web1", "web2", "web4"),
        web("web1", "web2", "web4", on_empty="drop"),
    ),
    "a backend that is gone from the file": (TWO, web("web1"), TWO, web("web1")),
    "a backend that was removed": (
        TWO,
        web("web1", "web2", on_empty="drop"),
        web("web1"),
        web("web1", on_empty="drop"),
    ),
    "a backend that was removed and that the file changes": (
        TWO,
        web("web1", "web2", web2={"weight": 3}),
        web("web1"),
        web("web1", "web2", web2={"weight": 3}),
    ),
    "a backend that both have made": (
        web("web1"),
        web("web1", "web2", web2={"weight": 3}),
        web("web1", "web2", web2={"weight": 9, "max_connections": 7}),
        web("web1", "web2", web2={"weight": 3}),
    ),
    "listeners, each for itself": (
        TWO,
        web("web1", "web2", listeners=[HTTP, HTTPS]),
        web("web1", "web2", listeners=[HTTP, f"{OTHER_VIP}:80/tcp"]),
        web("web1", "web2", listeners=[HTTP, f"{OTHER_VIP}:80/tcp", HTTPS]),
    ),
    "a listener that is gone from the file": (
        web("web1", listeners=[HTTP, HTTPS]),
        web("web1"),
        web("web1", listeners=[HTTP, HTTPS, MAIL]),
        web("web1", listeners=[HTTP, MAIL]),
    ),
    "a listener that was removed": (
        web("web1", listeners=[HTTP, HTTPS]),
        web("web1", listeners=[HTTP, HTTPS], on_empty="drop"),
        web("web1"),
        web("web1", on_empty="drop"),
    ),
    "a service of the file": (None, TWO, None, TWO),
    "a service of run time": (None, None, TWO, TWO),
    "a service that is gone from the file": (TWO, None, web("web1", "web2", "web3"), None),
    "a service that was removed": (TWO, TWO, None, None),
    "a service that was removed and that the file changes": (TWO, web("web1"), None, web("web1")),
    "a service that both have made": (
        None,
        web("web1", scheduler="rr"),
        web("web1", "web4", scheduler="lc", timeouts={"tcp": "60s"}),
        web("web1", "web4", scheduler="rr"),
    ),
    "a drain": (
        TWO,
        web("web1", "web2", web1={"weight": 3}),
        web("web1", "web2", web1=DRAIN),
        web("web1", "web2", web1=DRAIN | {"weight": 3}),
    ),
    "a drain, where the file says and said another thing": (
        web("web1", web1=ENABLED),
        web("web1", web1=ENABLED | {"weight": 3}),
        web("web1", web1=DRAIN),
        web("web1", web1=DRAIN | {"weight": 3}),
    ),
    "a drain that the file ends": (
        web("web1"),
        web("web1", web1=ENABLED),
        web("web1", web1=DRAIN),
        web("web1", web1=ENABLED),
    ),
    "a drain that the file begins": (
        web("web1"),
        web("web1", web1=DRAIN),
        web("web1"),
        web("web1", web1=DRAIN),
    ),
    "a drain of the file that it takes back": (
        web("web1", web1=DRAIN),
        web("web1"),
        web("web1", web1=DRAIN),
        web("web1"),
    ),
    "a drain of the file that became another thing": (
        web("web1", web1=DRAIN),
        web("web1"),
        web("web1", web1=MAINTENANCE),
        web("web1", web1=MAINTENANCE),
    ),
}


@pytest.mark.parametrize(
    ("before", "now", "present", "wanted"), [pytest.param(*row, id=name) for name, row in ROWS.items()]
)
def test_only_what_differs_between_the_files_is_applied(
    before: Document | None, now: Document | None, present: Document | None, wanted: Document | None
) -> None:
    result = merged(before, now, present)

    assert result == Merged(specs(web=wanted) if wanted else {})


def test_what_drained_because_of_the_file_comes_back_with_it() -> None:
    result = merged(
        web("web1"), web("web1", "web2"), web("web1", "web2", web2=DRAIN), ("web2",), leaving=("web2",)
    )

    assert result == Merged(specs(web=TWO))


BUSY: dict[str, tuple[Document, Document | None, Document, Document | None, set[str]]] = {
    "a backend": (TWO, web("web1"), TWO, web("web1", "web2", web2=DRAIN), {"web2"}),
    "a backend that drains already": (
        TWO,
        web("web1"),
        web("web1", "web2", web2=DRAIN),
        web("web1", "web2", web2=DRAIN),
        {"web2"},
    ),
    "a backend in maintenance": (TWO, web("web1"), web("web1", "web2", web2=MAINTENANCE), web("web1"), set()),
    "a service": (
        web("web1", "web2", "web3", fallback="web3"),
        None,
        web("web1", "web2", "web3", "web4", fallback="web3"),
        web("web1", "web2", web1=DRAIN, web2=DRAIN),
        {"web1", "web2"},
    ),
}


@pytest.mark.parametrize(
    ("before", "now", "present", "wanted", "leaving"),
    [pytest.param(*row, id=name) for name, row in BUSY.items()],
)
def test_what_has_connections_drains_first(
    before: Document, now: Document | None, present: Document, wanted: Document | None, leaving: set[str]
) -> None:
    result = merged(before, now, present, busy=("web1", "web2"))

    assert result == Merged(specs(web=wanted) if wanted else {}, frozenset(("web", name) for name in leaving))


@pytest.mark.parametrize(
    ("busy", "wanted"),
    [
        pytest.param(("web2",), web("web1", "web2", web2=DRAIN, on_empty="drop"), id="busy"),
        pytest.param((), web("web1", on_empty="drop"), id="idle"),
    ],
)
def test_what_leaves_goes_on_leaving_when_the_file_changes_again(
    busy: tuple[str, ...], wanted: Document
) -> None:
    result = merged(
        web("web1"), web("web1", on_empty="drop"), web("web1", "web2", web2=DRAIN), busy, leaving=("web2",)
    )

    assert result.services == specs(web=wanted)
    assert result.leaving == {("web", name) for name in busy}


def test_a_service_that_leaves_goes_on_leaving_when_the_file_changes_again() -> None:
    present = web("web1", web1=DRAIN)
    still = merged(None, None, present, ("web1",), leaving=("web1",))
    empty = merged(None, None, present, leaving=("web1",))

    assert still == Merged(specs(web=present), frozenset({("web", "web1")}))
    assert empty == Merged({})


REFUSED: dict[str, tuple[Document, Document, Document, type[DirectorError], str]] = {
    "a listener with connections": (
        web("web1", listeners=[HTTP, HTTPS]),
        web("web1"),
        web("web1", listeners=[HTTP, HTTPS]),
        ConflictError,
        f"no listener {HTTPS} of service 'web' any more, and backend 'web1' has 5 connections",
    ),
    "another address of a backend with connections": (
        web("web1"),
        web("web1", web1={"address": str(HOSTS["web4"])}),
        web("web1"),
        ConflictError,
        "moves backend 'web/web1' to 192.0.2.24, and it has 5 connections",
    ),
    "an address that was taken at run time": (
        web("web1"),
        web("web1", "web2"),
        web("web1", "web4", web4={"address": str(HOSTS["web2"])}),
        ConfigurationError,
        "both have the address 192.0.2.22",
    ),
    "a check that contradicts": (
        web("web1"),
        web("web1", check=CHECK | {"interval": "1500ms"}),
        web("web1", check=CHECK | {"timeout": "1900ms"}),
        ConfigurationError,
        "timeout 1900ms is longer than interval 1500ms",
    ),
    "thresholds that contradict": (
        web("web1", web1={"max_connections": 90, "resume_connections": 10}),
        web("web1", web1={"max_connections": 50, "resume_connections": 10}),
        web("web1", web1={"max_connections": 90, "resume_connections": 80}),
        ConfigurationError,
        "backend 'web/web1': .*resume_connections must not be above max_connections",
    ),
    "a fallback that leaves": (
        web("web1", "web2"),
        web("web1"),
        web("web1", "web2", fallback="web2"),
        ConfigurationError,
        "fallback 'web2' is none of the service's backends",
    ),
}


@pytest.mark.parametrize(
    ("before", "now", "present", "kind", "why"),
    [pytest.param(*row, id=name) for name, row in REFUSED.items()],
)
def test_a_file_that_would_cut_or_contradicts_is_refused_whole(
    before: Document, now: Document, present: Document, kind: type[DirectorError], why: str
) -> None:
    with pytest.raises(kind, match=why):
        merged(before, now, present, busy=("web1", "web2"))


def test_another_name_does_not_take_the_listeners_of_a_busy_service() -> None:
    context = MergeContext(before=specs(web=TWO), busy=lambda key: FIVE if key[0] == "web" else "")

    with pytest.raises(ConflictError, match="does not have any more, and backend 'web1' has 5 connections"):
        merge_file(specs(web=TWO), specs(www=TWO), context)

    assert merge_file(specs(web=TWO), specs(www=TWO), MergeContext(before=specs(web=TWO))) == Merged(
        specs(www=TWO)
    )


BACKENDS = st.dictionaries(
    st.sampled_from(["web1", "web2", "web3"]),
    st.fixed_dictionaries({}, optional={"weight": st.integers(0, 3), "admin": st.sampled_from(AdminState)}),
)
SERVICES = st.builds(
    lambda backends, fields, listeners: specs(
        web=web(*backends, **backends, **fields, listeners=sorted(listeners))
    )["web"],
    BACKENDS,
    st.fixed_dictionaries(
        {},
        optional={
            "scheduler": st.sampled_from(["wlc", "rr"]),
            "on_empty": st.sampled_from(["drop", "reject"]),
        },
    ),
    st.sets(st.sampled_from([HTTP, HTTPS, MAIL]), min_size=1),
)
FILES = st.dictionaries(st.just("web"), SERVICES)


@settings(deadline=None)
@given(before=FILES, now=FILES, present=FILES)
def test_the_rules_of_a_three_way_merge(
    before: dict[str, ServiceSpec], now: dict[str, ServiceSpec], present: dict[str, ServiceSpec]
) -> None:
    """Whatever the three are. Admin states have rules of their own, so they are left alone here."""

    def plain(services: dict[str, ServiceSpec]) -> dict[str, ServiceSpec]:
        return {
            name: spec.model_copy(
                update={
                    "listeners": tuple(sorted(spec.listeners, key=str)),
                    "backends": {
                        key: each.model_copy(update={"admin": AdminState.ENABLED})
                        for key, each in spec.backends.items()
                    },
                }
            )
            for name, spec in services.items()
        }

    context = MergeContext(before=before)

    assert plain(merge_file(present, before, context).services) == plain(present), "the file is as it was"
    assert plain(merge_file(before, now, context).services) == plain(now), "nothing was changed at run time"


@settings(deadline=None)
@given(before=FILES, now=FILES, present=FILES, busy=st.sets(st.sampled_from(["web1", "web2", "web3"])))
def test_whoever_has_connections_keeps_them(
    before: dict[str, ServiceSpec],
    now: dict[str, ServiceSpec],
    present: dict[str, ServiceSpec],
    busy: set[str],
) -> None:
    context = MergeContext(before=before, busy=lambda key: FIVE if key[1] in busy else "")
    try:
        result = merge_file(present, now, context).services
    except DirectorError:
        return
    for name, spec in present.items():
        alive = {
            key
            for key in busy & spec.backends.keys()
            if spec.backends[key].admin is not AdminState.MAINTENANCE
        }
        if alive:
            assert alive <= result[name].backends.keys()
            assert set(spec.listeners) <= set(result[name].listeners)
