# SPDX-License-Identifier: Apache-2.0
"""Records of one director in the table of another, by the programs that packets run through."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple

import numpy as np
import pytest
from scapy.packet import Packet

import tests.support.world as w
from tests.support.sizes import SMALL
from xdpdirector.dataplane.maps import Array
from xdpdirector.dataplane.service_plan import MemberPlan
from xdpdirector.loader import attachment, compiler
from xdpdirector.model import Persistence, Scheduler
from xdpdirector.paths import InstancePaths
from xdpdirector.sync import messages, scanner
from xdpdirector.sync.interface import ENDED, ConnectionTables, Theirs
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.merger import Merger
from xdpdirector.sync.names import NameReader, Names, Translation
from xdpdirector.sync.records import Fields
from xdpdirector.sync.scanner import Batch, Scanner

TWO = (w.backend("web1"), w.backend("web2"))
FLOWS = range(1, 201)
AN_HOUR = 3600.0


class Director(NamedTuple):
    world: w.World
    names: NameReader
    scanner: Scanner
    merger: Merger

    def take(self, batches: list[Batch], other: Director, *, is_first: bool = False) -> Merged:
        """Merge these of the other's."""
        total = Merged()
        self.names.changed()
        other.names.changed()
        translation = Translation.between(other.names.names, self.names.names)
        states = self.merger.states(other.world.tables.enums["connection_state"])
        for batch in batches:
            merged, exceptions = self.merger.merge(batch, translation, states, is_first=is_first)
            self.world.plane.rings.mark_exceptions(exceptions)
            total.add(merged)
        return total

    def scan(self) -> list[Batch]:
        self.names.changed()
        return self.scanner.scan()

    def bulk(self) -> list[Batch]:
        self.names.changed()
        return list(self.scanner.bulk())


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[w.World]]:
    paths = [InstancePaths(f"sync{number}-{os.getpid()}") for number in (1, 2)]
    try:
        with (
            w.World(paths[0], compiler.prepare_in_child(paths[0], SMALL)) as one,
            w.World(paths[1], compiler.prepare_in_child(paths[1], SMALL)) as two,
        ):
            yield [one, two]
    finally:
        for each in paths:
            attachment.unload(each)


@pytest.fixture
def pair(worlds: list[w.World]) -> Iterator[tuple[Director, Director]]:
    made = []
    for world in worlds:
        world.empty()
        names = NameReader(world.tables)
        scanner = Scanner(world.tables, world.clock, names)
        merger = Merger(world.tables, scanner, world.tables.loaded.program.with_name("merge"))
        made.append(Director(world, names, scanner, merger))
    # Their numbers differ.
    worlds[1].apply(w.service(name="other", listeners=(), members=(w.backend("web3"), w.backend("web2"))))
    for world in worlds:
        world.apply(w.service(members=TWO))
    yield made[0], made[1]
    for each in made:
        each.merger.close()
        each.scanner.close()


def opened(director: Director) -> dict[tuple[int, int], str]:
    """Flows of both families, and who has them."""
    for sport in FLOWS:
        for frame in (w.tcp, w.tcp6):
            director.world.send(frame("S", sport=sport))
    return owners(director)


def owners(director: Director) -> dict[tuple[int, int], str]:
    return {
        (number, sport): w.owner(director.world.send(frame("PA", sport=sport)))
        for number, frame in enumerate((w.tcp, w.tcp6))
        for sport in FLOWS
    }


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


def tables_of(director: Director, now: float = 2.0) -> ConnectionTables:
    world = director.world
    return ConnectionTables(
        world.tables,
        world.clock,
        world.tables.loaded.program.with_name("merge"),
        world.plane.rings,
        now=lambda: now,
    )


async def received(batch: Batch) -> Batch:
    """As it comes over the wire."""
    reader = asyncio.StreamReader()
    reader.feed_data(messages.batch(batch))
    body = (await messages.read(reader)).body
    assert isinstance(body, Batch)
    return body


def transferred(one: Director, two: Director, now: float = 2.0) -> Merged:
    """All that one has, into two, as sessions do it."""

    async def work() -> Merged:
        with closing(tables_of(one, now)) as source, closing(tables_of(two, now)) as target:
            theirs = Theirs(source.states(), is_first=True)
            theirs.named(Names.parse(source.names.document()))
            total = Merged()
            async for batch in source.bulk():
                total.add(await target.merge(await received(batch), theirs))
            return total

    return asyncio.run(work())


def test_a_client_keeps_its_backend_on_the_other_director(pair: tuple[Director, Director]) -> None:
    one, two = pair
    for director in pair:
        director.world.apply(w.service(members=TWO, persistence=Persistence()))
    first = {}
    for number in range(1, 9):
        client = f"198.51.100.{number}"
        first[client] = w.owner(one.world.send(w.tcp("S", sport=1, client=client)))
        one.world.send(w.tcp("A", sport=1, client=client))

    assert transferred(one, two).unknown == 0
    assert {client: w.owner(two.world.send(w.tcp("S", sport=2, client=client))) for client in first} == first
    assert set(first.values()) == {"web1", "web2"}


def test_a_ring_in_flux_is_in_flux_on_the_other_director(pair: tuple[Director, Director]) -> None:
    """Flows from before the change have no record: the slot alone says where they run."""
    one, two = pair
    three = (*TWO, w.backend("web3"))
    one.world.apply(w.service(members=three, scheduler=Scheduler.MH))
    had = opened(one)
    draining = (w.backend("web1"), w.backend("web2"), w.backend("web3", accepts=False))
    for director in pair:
        director.world.apply(w.service(members=draining, scheduler=Scheduler.MH), now=1)
    assert owners(two) != had
    two.world.forget_connections()

    transferred(one, two)

    assert owners(two) == had
    assert "web3" in had.values()


def drained_there(one: Director) -> dict[tuple[int, int], str]:
    """On the other director web3 had flows, and is drained: its slots are in flux. Who has which flow."""
    three = (*TWO, w.backend("web3"))
    one.world.apply(w.service(members=three, scheduler=Scheduler.MH))
    had = opened(one)
    one.world.apply(w.service(members=DRAINING, scheduler=Scheduler.MH), now=1)
    assert "web3" in had.values()
    return had


DRAINING = (w.backend("web1"), w.backend("web2"), w.backend("web3", accepts=False))
UNCHECKED = tuple(w.backend(name, accepts=False) for name in ("web1", "web2", "web3"))
HALF_CHECKED = (w.backend("web1"), *UNCHECKED[1:])


@pytest.mark.parametrize("first", [UNCHECKED, HALF_CHECKED], ids=["none", "one"])
def test_a_ring_in_flux_is_in_flux_where_checks_come_later(
    pair: tuple[Director, Director], first: tuple[MemberPlan, ...]
) -> None:
    """A director that has just started gets its peers' connections before it knows which backends are up."""
    one, two = pair
    had = drained_there(one)
    two.world.plane.remove("web")
    two.world.apply(w.service(members=first, scheduler=Scheduler.MH), now=1)

    transferred(one, two)
    two.world.apply(w.service(members=HALF_CHECKED, scheduler=Scheduler.MH), now=2)
    two.world.apply(w.service(members=DRAINING, scheduler=Scheduler.MH), now=3)

    assert owners(two) == had


def test_flux_ends_on_the_other_director_when_it_ends_here(pair: tuple[Director, Director]) -> None:
    """New flows have records in flux only: where it went on, they would be taken for those of before."""
    one, two = pair
    drained_there(one)
    two.world.plane.remove("web")
    two.world.apply(w.service(members=DRAINING, scheduler=Scheduler.MH), now=500)

    transferred(one, two, now=501.0)

    left = [
        each.world.plane.rings.flux_left("web", each.world.plane.indices.services["web"], 501.0)
        for each in pair
    ]
    assert left == pytest.approx([1 + w.SERVICE.timeouts.tcp - 501.0] * 2, abs=0.01)


def test_slots_whose_former_backend_is_gone_are_in_flux_there_too(pair: tuple[Director, Director]) -> None:
    """A flow that begins there needs a record: here its slot says nothing of it."""
    one, two = pair
    drained_there(one)
    two.world.plane.remove("web")
    for director in pair:
        director.world.apply(w.service(members=DRAINING[:2], scheduler=Scheduler.MH), now=2)

    transferred(one, two)
    had = opened(two)
    one.world.forget_connections()
    transferred(two, one)

    assert owners(one) == had


def test_records_that_disagree_with_their_slot_are_found(pair: tuple[Director, Director]) -> None:
    """At rest a ring's slots answer alone, unless they have the exceptions mark."""
    one, two = pair
    one.world.apply(w.service(members=TWO))
    had = opened(one)
    two.world.apply(w.service(members=TWO, scheduler=Scheduler.MH))
    assert owners(two) != had
    two.world.forget_connections()

    transferred(one, two)

    assert owners(two) == had
