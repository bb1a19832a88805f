# SPDX-License-Identifier: Apache-2.0
"""Several directors that are active at once (ECMP) and exchange connections: no flow changes its living backend,
whatever is done to backends while the router sends a flow now through this director, now through that one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import closing

import pytest
from scapy.packet import Packet

import tests.support.world as w
from tests.support.ring_slots import planned
from xdpdirector.model import Sizes
from xdpdirector.sync.interface import ConnectionTables, Theirs
from xdpdirector.sync.scanner import Batch

SIZES = Sizes(services=4, backends=64, listeners=16, connections=1 << 16, connections6=1024, ring_slots=1 << 16,
              clients=1024, fragments=1024, denied=16, sources=1024)  # fmt: skip
BACKENDS = ("web1", "web2", "web3")
DIRECTORS = 3
STEPS = 14
FLOWS_EACH = 40  # new ones after each step


class Member:
    """One director of the fleet."""

    def __init__(self, world: w.World) -> None:
        self.world = world
        self.tables = ConnectionTables(
            world.tables, world.clock, world.tables.loaded.program.with_name("merge"), world.plane.rings
        )


class Fleet:
    """Directors with one desired state. `alive`: whom the router knows."""

    def __init__(self, worlds: list[w.World], scheduler: str, seed: int) -> None:
        self._worlds, self._scheduler, self._random = worlds, scheduler, random.Random(seed)
        self.present = set(BACKENDS)
        self.draining: set[str] = set()
        self.down: set[str] = set()
        self.now = 0.0
        self.members = [Member(world) for world in worlds]
        self.alive = list(self.members)
        for member in self.members:
            member.world.plane.apply(self.plan(), self.now)
        asyncio.run(self.exchange())

    def plan(self) -> object:
        return planned(sorted(self.present), self.draining, self.down, scheduler=self._scheduler)

    def any(self) -> Member:
        return self._random.choice(self.alive)

    def change(self) -> str:
        """One thing is done to the backends or to a director; what it was."""
        kind = self._random.choice(["drain", "enable", "down", "up", "remove", "add", "die", "join", "time"])
        self._change_backends(kind)
        if kind == "die" and len(self.alive) > 1:
            self.alive.remove(self._random.choice(self.alive))
        elif kind == "join" and len(self.alive) < DIRECTORS:
            self._join(self._random.choice([each for each in self.members if each not in self.alive]))
        elif kind == "time":
            self.now += 60.0
        for member in self.alive:
            member.world.plane.apply(self.plan(), self.now)
            member.world.plane.settle(member.world.sweep().exceptions, self.now)
        return kind

    def _change_backends(self, kind: str) -> None:
        left = self.present - self.draining - self.down
        if kind == "drain" and len(left) > 1:
            self.draining.add(self._random.choice(sorted(left)))
        elif kind == "enable" and self.draining:
            self.draining.remove(self._random.choice(sorted(self.draining)))
        elif kind == "down" and len(left) > 1:
            self.down.add(self._random.choice(sorted(left)))
        elif kind == "up" and self.down:
            self.down.remove(self._random.choice(sorted(self.down)))
        elif kind == "remove" and self.draining:
            gone = self._random.choice(sorted(self.draining))
            for names in (self.present, self.draining, self.down):
                names.discard(gone)
        elif kind == "add" and len(self.present) < len(BACKENDS):
            self.present.add(self._random.choice(sorted(set(BACKENDS) - self.present)))

    def _join(self, member: Member) -> None:
        """Back with empty tables; ready when it has the others' connections."""
        member.tables.close()
        member.world.empty()
        member.world.plane.apply(self.plan(), self.now)
        self.members[self.members.index(member)] = fresh = Member(member.world)
        asyncio.run(self.exchange())
        asyncio.run(fresh.tables.scan())
        for other in self.alive:
            asyncio.run(self._send_bulk(other, fresh))
        self.alive.append(fresh)

    async def _send_bulk(self, source: Member, target: Member) -> None:
        async for batch in source.tables.bulk():
            await self._merge(source, target, batch)

    async def exchange(self) -> None:
        """Everybody tells everybody what has changed."""
        found = [(source, (await source.tables.scan())[0]) for source in self.alive]
        for source, batches in found:
            for target in self.alive:
                for batch in batches if target is not source else ():
                    await self._merge(source, target, batch)

    async def _merge(self, source: Member, target: Member, batch: Batch) -> None:
        theirs = Theirs(source.tables.states(), is_first=id(source) < id(target))
        theirs.named(source.tables.names)
        result = await target.tables.merge(batch, theirs)
        assert (result.unknown, result.full) == (0, 0)

    def close(self) -> None:
        for member in self.members:
            member.tables.close()


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[w.World]]:
    with w.worlds("fleet", DIRECTORS, SIZES) as worlds:
        yield worlds


def frame(flags: str, flow: int) -> Packet:
    """Of a flow: every third has a client of its own, as `sh` has all of a client's on one backend."""
    return w.tcp(flags, sport=flow, client=f"198.51.100.{flow // 3 % 250 + 1}")


def moved(fleet: Fleet, owners: dict[int, str]) -> dict[int, tuple[str, str]]:
    """Flows that go on through any director, and reach another backend though theirs lives."""
    found = {}
    for sport, owner in owners.items():
        if owner in fleet.down:
            continue
        outcome = fleet.any().world.send(frame("PA", sport))
        now = w.owner(outcome) if outcome.reason.startswith("forward") else outcome.reason
        if now != owner:
            found[sport] = (owner, now)
    return found


@pytest.mark.parametrize("scheduler", ["mh", "sh", "wlc"])
@pytest.mark.parametrize(
    ("seed", "each"),
    [
        (1, FLOWS_EACH),
        *(pytest.param(seed, FLOWS_EACH, marks=pytest.mark.soak) for seed in range(2, 12)),
        pytest.param(12, 10_000 // STEPS, marks=pytest.mark.soak),
    ],
)
def test_no_flow_changes_its_living_backend(
    worlds: list[w.World], scheduler: str, seed: int, each: int
) -> None:
    for world in worlds:
        world.empty()
    with closing(Fleet(worlds, scheduler, seed)) as fleet:
        owners: dict[int, str] = {}
        served: set[str] = set()
        done = []
        for step in range(STEPS):
            done.append(fleet.change())
            owners = {flow: owner for flow, owner in owners.items() if owner in fleet.present - fleet.down}
            assert moved(fleet, owners) == {}, f"after {done}"
            for sport in range(1 + each * step, 1 + each * (step + 1)):
                world = fleet.any().world
                owners[sport] = w.owner(world.send(frame("S", sport)))
                world.send(frame("A", sport))
            served.update(owners.values())
            asyncio.run(fleet.exchange())
        assert served == set(BACKENDS)
