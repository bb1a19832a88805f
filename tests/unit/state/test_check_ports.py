# SPDX-License-Identifier: Apache-2.0
"""Which port a check asks, and that no listener changes it."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import tests.support.stage as s
from tests.support.fake_plane import FakePlane
from tests.support.stage import (
    ME,
    OTHER_VIP,
    VIP,
    WEB1,
    WEB2,
    Stage,
    story,
    until,
)
from xdpdirector.control.configuration import initial_state
from xdpdirector.model import Configuration, ServiceSpec
from xdpdirector.model.status import Operational
from xdpdirector.state import edits
from xdpdirector.state.file_merge import MergeContext, merge_file
from xdpdirector.state.revisions import RevisionDraft
from xdpdirector.storage.fallback import FallbackStore
from xdpdirector.storage.store import Store

HTTP: dict[str, Any] = {"type": "http"}
TCP: dict[str, Any] = {"type": "tcp"}


def web(*listeners: str, check: dict[str, Any] | None = None, **fields: Any) -> ServiceSpec:
    """Each listener as `80`, or with its VIP."""
    each = [f"{listener if ':' in listener else f'{VIP}:{listener}'}/tcp" for listener in listeners]
    return s.service("web1", "web2", listeners=each, check=HTTP if check is None else check, **fields)


@pytest.mark.parametrize(
    ("check", "listeners", "port"),
    [
        pytest.param(HTTP, ["80"], 80, id="the only one"),
        pytest.param(HTTP, ["8080", "80", "81"], 80, id="the usual one of the type"),
        pytest.param({"type": "https"}, ["80", "443"], 443, id="of another type"),
        pytest.param({"type": "imap", "tls": "direct"}, ["143", "993"], 993, id="with TLS at once"),
        pytest.param(TCP, ["443", "80"], 80, id="none is usual: the lowest"),
        pytest.param(HTTP, ["8443", "8080"], 8080, id="the usual one is not there"),
        pytest.param({**HTTP, "port": 81}, ["80", "81"], 81, id="as it says"),
        pytest.param(HTTP, ["1-1024", "81"], 81, id="a range is none"),
    ],
)
def test_the_order_of_the_listeners_does_not_matter(
    check: dict[str, Any], listeners: list[str], port: int
) -> None:
    orders = itertools.permutations(listeners)

    assert {web(*order, check=check).check_port for order in orders} == {port}


@pytest.mark.parametrize(
    ("before", "after", "port"),
    [
        pytest.param(web("443", check=TCP), web("80", "443", check=TCP), 443, id="a lower one"),
        pytest.param(web("8080"), web("80", "8080"), 8080, id="the usual one"),
        pytest.param(web("8080"), web("80", "8080", check={**HTTP, "interval": "9s"}), 8080, id="and more"),
        pytest.param(web("443", "80"), web("443"), 443, id="not where it does not listen any more"),
        pytest.param(web("8080"), web("80", "8080", check={**HTTP, "port": 80}), 80, id="as it says"),
        pytest.param(web("80"), web("80", "443", check={"type": "https"}), 443, id="another type"),
    ],
)
def test_what_is_asked_stays_when_listeners_come(before: ServiceSpec, after: ServiceSpec, port: int) -> None:
    now = {"web": before}
    by_put = edits.replace_service(now, "web", after)
    by_document = edits.replace_all(now, {"web": after})
    by_patch = edits.patch_service(
        now, "web", after.model_dump(mode="json", exclude_unset=True, include={"listeners", "check"})
    )
    by_file = edits.replace_all(now, merge_file(now, {"web": after}, MergeContext(before=now)).services)

    assert [each["web"].check_port for each in (by_put, by_document, by_patch, by_file)] == [port] * 4


def test_the_same_document_again_changes_nothing() -> None:
    wanted = {"web": web("80", "8080")}
    first = edits.replace_all({"web": web("8080")}, wanted)

    assert edits.replace_all(first, wanted) is first


@pytest.mark.parametrize(
    "listeners",
    [
        pytest.param(["443", "80"], id="before the others"),
        pytest.param([f"{OTHER_VIP}:443", f"{VIP}:80"], id="with a new VIP"),
        pytest.param(["79", f"{OTHER_VIP}:79", "80"], id="a lower one"),
    ],
)
@pytest.mark.parametrize("check", [HTTP, TCP])
@story
async def test_a_listener_at_another_port_takes_nobody_out(
    listeners: list[str], check: dict[str, Any]
) -> None:
    async with Stage(web=web("80", check=check)) as stage:
        for key in (WEB1, WEB2):
            stage.checks.say(key, Operational.UP)
        await until(lambda: stage.member(WEB1).accepts and stage.member(WEB2).accepts)

        await stage.director.patch_service(
            "web",
            {"listeners": [f"{each}/tcp" if ":" in each else f"{VIP}:{each}/tcp" for each in listeners]},
            intent=ME,
        )

        assert [target.port for target in stage.checks.running[WEB1][1]] == [80]
        assert stage.checks.began[WEB1] == 1
        assert stage.member(WEB1).accepts
        assert stage.member(WEB1).out == frozenset()


@story
async def test_a_vip_that_is_not_asked_any_more_keeps_what_was_known_until_there_are_answers() -> None:
    async with Stage(web=web(f"{VIP}:80")) as stage:
        for key in (WEB1, WEB2):
            stage.checks.say(key, Operational.UP)
        await until(lambda: stage.member(WEB1).accepts)

        asked_elsewhere = {**HTTP, "port": 443}
        await stage.director.put_service(
            "web", web(f"{VIP}:80", f"{OTHER_VIP}:443", check=asked_elsewhere), intent=ME
        )

        assert [target.address for target in stage.checks.running[WEB1][1]] == [OTHER_VIP]
        assert stage.member(WEB1).accepts
        assert stage.member(WEB1).out == {OTHER_VIP}
        stage.checks.say(WEB1, Operational.DOWN, "no answer")
        await until(lambda: not stage.member(WEB1).accepts)


def test_a_file_that_names_a_listener_first_changes_not_what_is_asked_at_a_start(tmp_path: Path) -> None:
    """Also when nothing is in the data plane, as after a boot."""
    file = {"web": web("8080")}
    with FallbackStore(tmp_path / "state.db", tmp_path / "spare") as archive:
        archive.append(
            RevisionDraft(file, author="file", reason="", file_digest="before", file_services=file)
        )
        now = Configuration(interfaces=("eth0",), services={"web": web("80", "8080")})

        begun = initial_state(archive, now, "after", FakePlane())

    assert begun.services["web"].check_port == 8080


@pytest.mark.parametrize(
    ("listeners", "said"),
    [
        pytest.param(["8443", "80"], 8443, id="the first was asked"),
        pytest.param(["80", "8443"], None, id="the first is the usual one"),
    ],
)
def test_what_an_earlier_release_stored_is_asked_where_it_was(
    tmp_path: Path, listeners: list[str], said: int | None
) -> None:
    path = tmp_path / "state.db"
    with Store(path) as store:
        store.append(RevisionDraft({"web": web(*listeners)}, author="operator", reason=""))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE revisions SET any_order = 0")
    database.close()

    with Store(path) as store:
        found = store.latest()

    assert found
    check = found.services["web"].check
    assert check
    assert check.port == said
