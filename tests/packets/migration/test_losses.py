# SPDX-License-Identifier: Apache-2.0
"""What an upgrade would lose is said before, and refused unless it is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tests.support.world as w
from tests.support.sizes import LARGER, SMALL
from tests.support.upgrades import TWO, changed, reset, running, upgraded
from xdpdirector.dataplane.migration import connections, migrate
from xdpdirector.dataplane.migration.fates import Carried
from xdpdirector.errors import ConflictError
from xdpdirector.paths import InstancePaths

MANY = range(1, 2601)
LARGE = SMALL.model_copy(update={"connections": 1 << 14})


def lost(plans: list[Carried]) -> int:
    return sum(each.entries for each in plans if each.name == "connections4" and each.fate == "lost")


def test_what_would_be_lost_is_said_before(before: w.World, paths: InstancePaths, tmp_path: Path) -> None:
    before.apply(w.service())
    before.send(w.tcp("S"))
    other = changed(
        tmp_path, ("\tu64 state : 4;", "\tu64 condition : 4;"), ("record.state", "record.condition")
    )
    loaded = upgraded(paths, SMALL, other)

    with pytest.raises(ConflictError, match=r"connections4: 1 lost \(its records did not say: condition\)"):
        migrate.carry(paths, loaded)

    assert migrate.carry(paths, loaded, lose=True)


def test_connections_without_a_place_are_counted_and_refused(paths: InstancePaths) -> None:
    old = upgraded(paths, LARGE)
    with w.World(paths, old) as before:
        before.apply(w.service(members=TWO))
        running(before, MANY)
        loaded = upgraded(paths, SMALL)

        said = migrate.plan(old, loaded)
        with pytest.raises(ConflictError, match=f"connections4: {lost(said)} lost .*in a table for 1024"):
            migrate.carry(paths, loaded)
        assert reset(before, MANY) == 0

        done = migrate.carry(paths, loaded, lose=True)
        with w.World(paths, loaded) as after:
            completed = migrate.complete(paths, loaded)

            assert reset(after, MANY) == lost(said) == lost(done) == completed.unplaced > 0
            assert completed.records == len(MANY)


def test_what_comes_during_the_trial_is_not_taken_for_lost(
    paths: InstancePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with w.World(paths, upgraded(paths, LARGE)) as before:
        before.apply(w.service(members=TWO))
        running(before, range(1, 51))
        hand_in, coming = connections._hand_in, iter(range(51, 101))

        def hand_in_while_another_comes(*arguments: Any) -> None:
            hand_in(*arguments)
            running(before, range(sport := next(coming), sport + 1))

        monkeypatch.setattr(connections, "_hand_in", hand_in_while_another_comes)
        said = migrate.carry(paths, upgraded(paths, LARGER))

        assert {each.name: each.fate for each in said}["connections4"] == "converted"
        assert next(coming) > 52


def test_who_has_nothing_to_lose(paths: InstancePaths) -> None:
    """A flow of one packet, and one that was reset."""
    old = upgraded(paths, LARGE)
    with w.World(paths, old) as before:
        before.apply(w.service())
        for sport in MANY:
            before.send(w.tcp("S", sport=sport))
        ended = range(MANY.stop, MANY.stop + 200)
        running(before, ended)
        for sport in ended:
            before.send(w.tcp("R", sport=sport))
        loaded = upgraded(paths, SMALL)

        migrate.carry(paths, loaded)


def test_a_trial_leaves_nothing_behind(before: w.World, paths: InstancePaths) -> None:
    """Between trial and upgrade a client opens another connection from the same port."""
    before.apply(w.service())
    running(before, range(1, 2))
    loaded = upgraded(paths, LARGER)
    old = migrate.predecessor(paths, loaded)
    assert old is not None
    migrate.plan(old, loaded)
    before.forget_connections()
    before.apply(w.service(members=(w.backend("web1", weight=0), w.backend("web2"))))
    running(before, range(1, 2))

    migrate.carry(paths, loaded)

    with w.World(paths, loaded) as after:
        assert w.owner(after.send(w.tcp("PA", sport=1))) == "web2"
