# SPDX-License-Identifier: Apache-2.0
"""Records of one director in the table of another, by the programs that packets run through."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scapy.packet import Packet

import tests.support.world as w
from tests.support.synced_directors import FLOWS, TWO, Director, opened, owners
from xdpdirector.dataplane.maps import Array
from xdpdirector.sync import scanner
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.records import Fields

AN_HOUR = 3600.0


def test_flows_keep_their_backends_on_the_other_director(pair: tuple[Director, Director]) -> None:
    one, two = pair
    had = opened(one)

    merged = two.take(one.scan(), one)

    assert merged == Merged(inserted=2 * len(FLOWS))
    assert owners(two) == had
    assert set(had.values()) == {"web1", "web2"}


@pytest.mark.parametrize("frame", [w.udp, w.udp6])
def test_datagrams_keep_their_backends_on_the_other_director(
    pair: tuple[Director, Director], frame: Callable[..., Packet]
) -> None:
    one, two = pair
    had = {sport: w.owner(one.world.send(frame(sport=sport))) for sport in FLOWS}

    assert two.take(one.scan(), one) == Merged(inserted=len(FLOWS))
    assert {sport: w.owner(two.world.send(frame(sport=sport))) for sport in FLOWS} == had
    assert set(had.values()) == {"web1", "web2"}


def test_bulk_has_what_was_there_before(pair: tuple[Director, Director]) -> None:
    one, two = pair
    had = opened(one)
    one.scan()

    assert one.scan() == []
    assert two.take(one.bulk(), one) == Merged(inserted=2 * len(FLOWS))
    assert owners(two) == had


class SeenAgain:
    """A mapped table in which the first record is seen again at each of the first reads."""

    def __init__(self, live: Array, fields: Fields, times: int) -> None:
        self.live, self.times = live, times
        self.tick = fields.mask("seen") & -fields.mask("seen")

    def __len__(self) -> int:
        return len(self.live)

    def __getitem__(self, key: object) -> Array:
        found: Array = self.live[key].copy()
        if self.times:
            self.times -= 1
            entry = np.flatnonzero(self.live[:, -1])[0]
            self.live[entry, -1] ^= np.uint64(self.tick)
        return found


@pytest.mark.parametrize("times", [2, 3, 7])
def test_bulk_has_what_is_seen_again_while_it_is_read(pair: tuple[Director, Director], times: int) -> None:
    one, two = pair
    had = opened(one)
    table = one.scanner.tables["connections4"]
    live = table.live
    table.live = SeenAgain(live, table.fields, times)  # type: ignore[assignment]

    two.take(one.bulk(), one)
    table.live = live

    assert owners(two) == had


def test_what_was_merged_is_counted_and_not_sent_back(pair: tuple[Director, Director]) -> None:
    one, two = pair
    opened(one)
    two.take(one.scan(), one)

    assert two.scan() == []
    loads = [two.world.plane.counters.load(("web", name)) for name in ("web1", "web2")]
    assert sum(active for active, _ in loads) == 2 * len(FLOWS)
    assert loads == [one.world.plane.counters.load(("web", name)) for name in ("web1", "web2")]


def test_the_end_of_a_connection_follows(pair: tuple[Director, Director]) -> None:
    one, two = pair
    one.world.send(w.tcp("S"))
    one.world.send(w.tcp("A"))
    two.take(one.scan(), one)
    one.world.send(w.tcp("FA"))

    assert two.take(one.scan(), one) == Merged(updated=1)
    [web] = [
        two.world.plane.counters.load(("web", name))
        for name in ("web1", "web2")
        if any(two.world.plane.counters.load(("web", name)))
    ]
    assert web == (0, 1)


def test_an_end_at_once_is_later_than_the_third_packet(pair: tuple[Director, Director]) -> None:
    """Also where both are of the same tick."""
    one, two = pair
    for flags in ("S", "A", "PA"):
        one.world.send(w.tcp(flags))
    used = one.scan()
    one.world.send(w.tcp("FA"))

    two.take(used, one)
    two.take(one.scan(), one)
    for director in (one, two):
        director.take(used, one)

    for director in (one, two):
        (rows,) = director.world.connections()
        assert rows["state"].tolist() == [director.world.tables.enums["connection_state"]["CONNECTION_FIN"]]


def test_an_older_record_replaces_nothing(pair: tuple[Director, Director]) -> None:
    one, two = pair
    one.world.send(w.tcp("S"))
    before = one.scan()
    two.take(before, one)
    two.world.send(w.tcp("A"))

    assert two.take(before, one) == Merged(kept=1)
    assert one.take(two.scan(), two) == Merged(updated=1)
    assert one.scan() == []


def test_what_the_active_director_refreshes_the_standby_keeps(pair: tuple[Director, Director]) -> None:
    """For longer than the time-out, though no packet reaches the standby; and no longer than that."""
    one, two = pair
    one.world.send(w.tcp("S"))
    one.world.send(w.tcp("A"))
    two.take(one.scan(), one)
    for _ in range(3):
        for director in pair:
            director.world.shift_connections(-600)
            for table in director.scanner.tables.values():
                table.start()  # what was reported is as old
        one.world.send(w.tcp("A"))
        for _ in range(scanner.REFRESH_TURNS):
            two.take(one.scan(), one)
        two.world.sweep()
        assert sum(map(len, two.world.connections())) == 1
    two.world.shift_connections(-1000)
    two.world.sweep()
    assert sum(map(len, two.world.connections())) == 0


def in_conflict(one: Director, two: Director) -> None:
    """The same flow, opened here and there; each director has a backend of its own for it."""
    one.world.apply(w.service(members=(w.backend("web1"), w.backend("web2", accepts=False))))
    two.world.apply(w.service(members=(w.backend("web1", accepts=False), w.backend("web2"))))
    for director in (one, two):
        director.world.send(w.tcp("S"))
        director.world.apply(w.service(members=TWO))


@pytest.mark.parametrize("later", [0, 1])
def test_of_two_backends_for_a_flow_the_later_one_stays(pair: tuple[Director, Director], later: int) -> None:
    in_conflict(*pair)
    changes = [each.scan() for each in pair]
    for number, batches in enumerate(changes):
        for batch in batches:
            batch.records["age"] = 100 if number == later else 5000
    for number in (0, 1):
        pair[number].scanner.tables["connections4"].born -= 0 if number == later else 100

    results = [pair[0].take(changes[1], pair[1]), pair[1].take(changes[0], pair[0])]

    assert [each.conflicts for each in results] == [1, 1]
    assert {w.owner(each.world.send(w.tcp("A"))) for each in pair} == {f"web{later + 1}"}


def test_a_port_used_again_is_the_new_connections_on_the_other_director(
    pair: tuple[Director, Director],
) -> None:
    """The former connection has timed out and is not swept yet, here and there: the new one has its place."""
    one, two = pair
    one.world.apply(w.service(members=(w.backend("web1"), w.backend("web2", accepts=False))))
    for flags in ("S", "A", "FA"):
        one.world.send(w.tcp(flags))
    two.take(one.scan(), one)
    for director in pair:
        director.world.shift_connections(-AN_HOUR)
        director.scanner.tables["connections4"].born -= 100

    one.world.apply(w.service(members=(w.backend("web1", accepts=False), w.backend("web2"))))
    assert w.owner(one.world.send(w.tcp("S"))) == "web2"
    merged = two.take(one.scan(), one)

    assert merged.conflicts == 1
    assert w.owner(two.world.send(w.tcp("A"))) == "web2"


def test_what_the_other_director_lacks_is_counted(pair: tuple[Director, Director]) -> None:
    one, two = pair
    opened(one)
    two.world.plane.remove("web")

    assert two.take(one.scan(), one) == Merged(unknown=2 * len(FLOWS))
