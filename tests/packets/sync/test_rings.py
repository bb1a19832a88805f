# SPDX-License-Identifier: Apache-2.0
"""Rings, and persistence, of one director at another, by what their sessions exchange."""

from __future__ import annotations

import asyncio
from contextlib import closing

import pytest

import tests.support.world as w
from tests.support.synced_directors import TWO, Director, opened, owners
from xdpdirector.dataplane.service_plan import MemberPlan
from xdpdirector.model import Persistence, Scheduler
from xdpdirector.sync import messages
from xdpdirector.sync.interface import ConnectionTables, Theirs
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.names import Names
from xdpdirector.sync.scanner import Batch

DRAINING = (w.backend("web1"), w.backend("web2"), w.backend("web3", accepts=False))
UNCHECKED = tuple(w.backend(name, accepts=False) for name in ("web1", "web2", "web3"))
HALF_CHECKED = (w.backend("web1"), *UNCHECKED[1:])


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
