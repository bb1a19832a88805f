# SPDX-License-Identifier: Apache-2.0
"""How the deny list changes, and that it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.support.fake_denylist_store import FakeDenyListStore
from xdpdirector.errors import ConflictError, InvalidRequestError, NotFoundError, StoreError
from xdpdirector.model.guard import DenyEntry
from xdpdirector.state import denylist
from xdpdirector.state.denylist import (
    Denial,
    DenyListStore,
    StoredDenyList,
)
from xdpdirector.storage.denylist_store import SqliteDenyList
from xdpdirector.storage.store import Store

NET, HOST, NET6 = (ip_network(text) for text in ("203.0.113.0/24", "203.0.113.9", "2001:db8:7::/48"))
BEFORE = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
NOW = BEFORE + timedelta(hours=1)
FLOODS = Denial("floods", "alice", BEFORE)
OF_FILE = Denial("spam", "file", BEFORE, from_file=True)


def entry(prefix: object, reason: str = "") -> DenyEntry:
    return DenyEntry.model_validate({"prefix": prefix, "reason": reason})


def test_a_prefix_is_added_once() -> None:
    denials = denylist.added({NET: FLOODS}, entry(NET6, "scans"), "bob", NOW)

    assert denials == {NET: FLOODS, NET6: Denial("scans", "bob", NOW)}
    with pytest.raises(ConflictError, match="denied already"):
        denylist.added(denials, entry(NET6), "bob", NOW)


def test_what_is_said_again_stays_as_old_as_it_is() -> None:
    denials = {NET: FLOODS, HOST: OF_FILE}

    assert denylist.put(denials, entry(NET, "floods"), "bob", NOW) == denials
    assert denylist.put(denials, entry(NET, "more"), "bob", NOW)[NET] == Denial("more", "bob", NOW)


def test_what_goes_must_be_there() -> None:
    denials = {NET: FLOODS}

    assert denylist.removed(denials, NET) == {}
    with pytest.raises(NotFoundError, match=r"^203\.0\.113\.9/32 is not denied, but 203\.0\.113\.0/24 is"):
        denylist.removed(denials, HOST)
    with pytest.raises(NotFoundError, match=r"^2001:db8:7::/48 is not denied$"):
        denylist.removed(denials, NET6)


def test_the_widest_over_an_address_comes_first() -> None:
    denials = {HOST: FLOODS, NET6: FLOODS, NET: FLOODS}

    assert denylist.covering(denials, denylist.of_host(ip_address("203.0.113.9"))) == [NET, HOST]
    assert denylist.covering(denials, denylist.of_host(ip_address("2001:db8:7::1"))) == [NET6]
    assert denylist.covering(denials, denylist.of_host(ip_address("198.51.100.1"))) == []


def test_the_list_is_replaced_whole() -> None:
    denials = denylist.replaced({NET: FLOODS, HOST: FLOODS}, [entry(NET6), entry(NET, "floods")], "bob", NOW)

    assert denials == {NET6: Denial("", "bob", NOW), NET: FLOODS}
    with pytest.raises(InvalidRequestError, match="stands twice") as refusal:
        denylist.replaced(denials, [entry(NET6), entry(NET), entry(NET6)], "bob", NOW)
    assert refusal.value.pointer == "/items/2/prefix"


@pytest.mark.parametrize(
    ("kept", "file", "digest", "expected"),
    [
        pytest.param(StoredDenyList({}), [], "new", {}, id="nothing anywhere"),
        pytest.param(StoredDenyList({}), [NET], "new", {NET: "file"}, id="a first file"),
        pytest.param(StoredDenyList({NET: OF_FILE}, "same"), [NET], "same", {NET: "file"}, id="as before"),
        pytest.param(StoredDenyList({}, "same"), [NET], "same", {}, id="allowed at run time since"),
        pytest.param(
            StoredDenyList({NET: OF_FILE, HOST: FLOODS}, "old"),
            [NET6],
            "new",
            {HOST: "api", NET6: "file"},
            id="the file's go with the file, the others stay",
        ),
        pytest.param(StoredDenyList({NET: FLOODS}, "old"), [NET], "new", {NET: "file"}, id="both say it"),
        pytest.param(
            StoredDenyList({NET: FLOODS}), [NET6], "new", {NET: "api", NET6: "file"}, id="a first file later"
        ),
    ],
)
def test_file_and_run_time(
    kept: StoredDenyList, file: list[object], digest: str, expected: dict[object, str]
) -> None:
    merged = denylist.merged_with_file(kept, [entry(prefix) for prefix in file], digest, NOW)

    assert {prefix: "file" if found.from_file else "api" for prefix, found in merged.items()} == expected


@pytest.fixture(params=["real", "fake"])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DenyListStore]:
    if request.param == "fake":
        yield FakeDenyListStore()
        return
    with Store(tmp_path / "state.db") as store:
        yield SqliteDenyList(lambda: store.database)


def test_the_list_is_kept(keeper: DenyListStore) -> None:
    assert keeper.load() == StoredDenyList({})
    first = StoredDenyList({NET: FLOODS, HOST: OF_FILE}, "digest")
    second = StoredDenyList({HOST: FLOODS, NET6: FLOODS}, "other")

    keeper.keep({}, first)
    assert keeper.load() == first

    keeper.keep(first.denials, second)
    assert keeper.load() == second


def test_another_process_finds_it(tmp_path: Path) -> None:
    kept = StoredDenyList({NET6: FLOODS, NET: OF_FILE}, "digest")
    with Store(tmp_path / "state.db") as store:
        SqliteDenyList(lambda: store.database).keep({}, kept)

    with Store(tmp_path / "state.db") as store:
        assert SqliteDenyList(lambda: store.database).load() == kept


def test_what_is_no_prefix_in_the_file_is_an_error(tmp_path: Path) -> None:
    with Store(tmp_path / "state.db") as store:
        with store.database.transaction():
            store.database.write("INSERT INTO denied VALUES ('nonsense', '', '', '2025-01-01', 0)")

        with pytest.raises(StoreError, match="cannot be read by this release"):
            SqliteDenyList(lambda: store.database).load()
