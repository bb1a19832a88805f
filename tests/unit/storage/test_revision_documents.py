# SPDX-License-Identifier: Apache-2.0
"""Revisions of many services are stored as differences, and read as what they were."""

import json
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from xdpdirector.errors import ForeignStoreError, StoreError
from xdpdirector.model import ServiceSpec
from xdpdirector.state.revisions import RevisionDraft
from xdpdirector.storage import store as store_module
from xdpdirector.storage.database import Database, Format
from xdpdirector.storage.revision_documents import PART, SMALL
from xdpdirector.storage.store import FORMAT, Store

MANY = 200
FORMER = Format(FORMAT.name, FORMAT.application_id, FORMAT.migrations[:6], FORMAT.anew)
"""The last format in which each revision had its whole document."""


def spec(weight: int = 1) -> ServiceSpec:
    return ServiceSpec.model_validate(
        {
            "listeners": ["192.0.2.10:80/tcp"],
            "backends": {"web1": {"address": "192.0.2.21", "weight": weight}},
        }
    )


def many(count: int = MANY) -> dict[str, ServiceSpec]:
    return {f"service{number}": spec() for number in range(count)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path) as opened:
        yield opened


def append(store: Store, services: dict[str, ServiceSpec]) -> int:
    return store.append(RevisionDraft(services, author="operator", reason="because")).id


def stored(store: Store) -> list[tuple[int, int | None]]:
    """The length of each revision's document, and the whole that it refers to."""
    return store.database.rows("SELECT length(document), base FROM revisions ORDER BY id")  # type: ignore[return-value]


def wholes(store: Store) -> list[int]:
    return [number for (number,) in store.database.rows("SELECT id FROM documents ORDER BY id")]


def read(store: Store, number: int) -> list[tuple[str, ServiceSpec]]:
    """With their order."""
    revision = store.revision(number)
    assert revision
    return list(revision.services.items())


def test_a_change_among_many_services_is_stored_as_a_difference(store: Store, path: Path) -> None:
    before = many()
    after = {**before, "service7": spec(weight=9)}

    first, second = append(store, before), append(store, after)

    assert wholes(store) == [1]
    (whole, base), (difference, other) = stored(store)
    assert (base, other) == (1, 1)
    assert whole < difference < SMALL
    for _ in range(2):
        assert read(store, first) == list(before.items())
        assert read(store, second) == list(after.items())
        store.close()
        store = Store(path)
    store.close()


def test_few_services_are_stored_whole(store: Store) -> None:
    append(store, many(3))
    append(store, {**many(3), "service1": spec(weight=9)})

    assert [base for _, base in stored(store)] == [None, None]
    assert wholes(store) == []


def test_services_that_come_and_go_are_so_in_the_difference(store: Store) -> None:
    before = many()
    fewer = {name: each for name, each in before.items() if name not in ("service0", "service9")}
    more = {**fewer, "new": spec(), "another": spec()}
    append(store, before)

    numbers = [append(store, each) for each in (fewer, more, before)]

    assert wholes(store) == [1]
    assert [read(store, number) for number in numbers] == [
        list(each.items()) for each in (fewer, more, before)
    ]


def test_a_service_that_comes_back_in_another_place_is_read_there(store: Store) -> None:
    before = many()
    moved = {name: each for name, each in before.items() if name != "service9"} | {"service9": spec()}
    append(store, before)

    assert read(store, append(store, moved)) == list(moved.items())


def test_another_order_makes_a_whole(store: Store) -> None:
    before = many()
    after = dict(reversed(before.items()))
    append(store, before)

    number = append(store, after)

    assert wholes(store) == [1, 2]
    assert read(store, number) == list(after.items())


def test_many_changes_make_a_whole_now_and_then(store: Store) -> None:
    services = many()
    append(store, services)
    for number in range(MANY // 4):
        services = {**services, f"service{number}": spec(weight=9)}
        append(store, services)

    lengths = [length for length, _ in stored(store)]
    assert 2 <= len(wholes(store)) <= MANY // 4 // 2
    assert max(lengths) < len(json.dumps([each.model_dump(mode="json") for each in many().values()])) / PART
    assert read(store, MANY // 4 + 1) == list(services.items())


def test_a_restart_goes_on_with_the_same_whole(path: Path) -> None:
    with Store(path) as first:
        append(first, many())
        append(first, {**many(), "service7": spec(weight=9)})
    with Store(path) as second:
        latest = second.latest()
        assert latest
        number = append(second, {**latest.services, "service8": spec(weight=9)})

        assert wholes(second) == [1]
        assert read(second, number) == list(
            {**many(), "service7": spec(weight=9), "service8": spec(weight=9)}.items()
        )


def test_equal_services_of_another_origin_are_no_difference(store: Store) -> None:
    """As the copy of a fleet's state gets them: all of each revision, decoded anew."""
    append(store, many())

    append(store, {**many(), "service7": spec(weight=9)})

    assert wholes(store) == [1]


def test_wholes_go_with_the_last_revision_that_refers_to_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "KEPT", 5)
    services = many()
    append(store, services)
    for number in range(4):
        services = {**services, "service7": spec(weight=9 + number)}
        append(store, services)
    for number in range(5):
        services = {name: spec(weight=2 + number) for name in services}
        append(store, services)

    assert len(wholes(store)) == 5
    first = store.revision(6)
    assert first
    assert first.services["service7"] == spec(weight=2)

    store.forget_but(9, 10)
    assert len(wholes(store)) == 2
    number = append(store, {**services, "service7": spec(weight=1)})
    assert dict(read(store, number))["service7"] == spec(weight=1)
    assert dict(read(store, 9))["service7"] == spec(weight=5)


def test_a_difference_never_refers_to_a_whole_that_was_not_stored(store: Store, path: Path) -> None:
    services = many()
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TRIGGER no BEFORE INSERT ON revisions BEGIN SELECT RAISE(ABORT, 'no more'); END"
        )
        with pytest.raises(StoreError, match="no more"):
            append(store, services)
        database.execute("DROP TRIGGER no")

    append(store, {name: spec(weight=3) for name in services})
    number = append(store, {name: spec(weight=4 if name == "service7" else 3) for name in services})

    assert dict(read(store, number))["service7"] == spec(weight=4)
    assert dict(read(store, number))["service8"] == spec(weight=3)


def test_what_the_release_before_stored_is_read_and_gone_on_with(path: Path) -> None:
    before = many()
    text = json.dumps({"services": {name: each.model_dump(mode="json") for name, each in before.items()}})
    with Database(path, FORMER) as database, database.transaction():
        database.write(
            "INSERT INTO revisions (at, author, reason, document, file_services, any_order) "
            "VALUES ('2026-01-01T00:00:00+00:00', 'operator', 'because', ?, '[]', 1)",
            (text,),
        )

    with Store(path) as store:
        latest = store.latest()
        assert latest
        assert list(latest.services.items()) == list(before.items())
        changed = {**latest.services, "service7": spec(weight=9)}
        numbers = [append(store, changed), append(store, {**changed, "service8": spec(weight=9)})]

        assert [base for _, base in stored(store)] == [None, 1, 1]
        assert read(store, 1) == list(before.items())
        assert read(store, numbers[0]) == list(changed.items())


def test_a_difference_without_its_whole_is_refused(path: Path) -> None:
    with Store(path) as store:
        append(store, many())
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM documents")
        database.commit()

    with Store(path) as store, pytest.raises(ForeignStoreError, match="revision 1 in the state database"):
        store.latest()


def test_any_row_of_changes_is_read_as_it_was_stored(path: Path) -> None:
    chance, services, kept = random.Random(11), many(), dict[int, list[tuple[str, ServiceSpec]]]()
    store = Store(path)
    for _ in range(150):
        what, name = chance.random(), chance.choice(list(services))
        if what < 0.6:
            services = {**services, name: spec(weight=chance.randrange(100))}
        elif what < 0.7:
            services = {other: each for other, each in services.items() if other != name}
        elif what < 0.8:
            services = {**services, f"service{chance.randrange(2 * MANY)}": spec()}
        elif what < 0.83:
            services = {other: services[other] for other in chance.sample(list(services), len(services))}
        elif what < 0.87:
            services = {other: spec(weight=chance.randrange(100)) for other in services}
        elif what < 0.93:
            store.close()
            store = Store(path)
        else:
            services = {other: each.model_copy() for other, each in services.items()}
        kept[append(store, services)] = list(services.items())
    with store:
        for number, wanted in kept.items():
            assert read(store, number) == wanted
        assert len(wholes(store)) < len(kept) / 4
