# SPDX-License-Identifier: Apache-2.0
"""Which director saw a flow last: its connections are those that it has to lose."""

from __future__ import annotations

import tests.support.world as w
from tests.support.synced_directors import FLOWS, Director, opened
from xdpdirector.sync import scanner
from xdpdirector.sync.interface import ENDED


def seen_here(director: Director, silent: float | None = None) -> int:
    states = director.world.tables.enums["connection_state"]
    return director.scanner.seen_here([states[f"CONNECTION_{name}"] for name in ENDED], silent)


def test_flows_are_of_the_director_that_saw_them_last(pair: tuple[Director, Director]) -> None:
    """They begin at one, and go on at the other one: for both families."""
    one, two = pair
    opened(one)
    two.take(one.scan(), one)
    assert (seen_here(one), seen_here(two)) == (2 * len(FLOWS), 0)

    for sport in FLOWS[:50]:
        two.world.send(w.tcp("PA", sport=sport))
        two.world.send(w.tcp("FA", sport=sport))
    two.world.send(w.tcp6("PA", sport=FLOWS[0]))
    for table in one.scanner.tables.values():
        table.start()
    for director in pair:
        director.world.shift_connections(-10)
    two.world.send(w.tcp6("PA", sport=FLOWS[0]))
    changes = two.scan()
    for _ in range(scanner.REFRESH_TURNS):
        changes += two.scan()
    one.take(changes, two)

    # 50 have ended, and one is the other's; the rest is where it was.
    assert seen_here(one) == 2 * len(FLOWS) - 50 - 1
    assert seen_here(two) == 1


def test_flows_that_are_silent_are_told_apart(pair: tuple[Director, Director]) -> None:
    one, _ = pair
    opened(one)
    one.scan()
    one.world.shift_connections(-30)
    one.world.send(w.tcp("PA", sport=FLOWS[0]))

    assert (seen_here(one), seen_here(one, 10.0), seen_here(one, 60.0)) == (400, 1, 400)


def test_flows_that_were_there_before_are_the_directors_own(pair: tuple[Director, Director]) -> None:
    one, two = pair
    opened(one)
    two.take(one.scan(), one)
    for director in pair:
        for table in director.scanner.tables.values():
            table.start()  # as a daemon that starts

    assert (seen_here(one), seen_here(two)) == (400, 400)
