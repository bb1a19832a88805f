# SPDX-License-Identifier: Apache-2.0
"""Directors that are active at once, behind a router that spreads flows over them (ECMP), with connection sync
between them; their operator, and ten thousand clients.

What is expected is told twice. By what clients see: a flow is its backend's from its first packet on, while that
backend lives, whichever director its packets come through. And by the reference model of each director, packet by
packet. The models exchange records, too; of the rings, and of which slots are in flux, they know what the maps say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import tests.support.world as w
from tests.packets.reference.director import Director
from tests.packets.reference.fleet import exchange
from tests.support.flow_crowd import KINDS, NAMES, SILENCE, TCP4, TCP6, UDP4, Condition, Kind
from tests.support.xdp_driver import STAYED, Driver, mac_number
from xdpdirector.dataplane.rings import YOUNG
from xdpdirector.dataplane.service_plan import Hop, MemberPlan, ServicePlan, State
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.model import Scheduler
from xdpdirector.sync.interface import ConnectionTables, Theirs
from xdpdirector.sync.scanner import Batch

Indices: TypeAlias = npt.NDArray[np.int64]

ROOM = 3  # times the flows of the beginning
FIRST_CLIENT, PORTS, FIRST_PORT, PORT_STEP = int(ip_address("198.18.0.0")), 64, 1024, 1009
BACKENDS = NAMES[:4]
PLACES = {TCP4: (26, 34), TCP6: (34, 54), UDP4: (26, 34)}
"""Where the last 32 bits of the client's address, and its port, stand in a frame."""
SPREAD = np.uint64(0x9E3779B97F4A7C15)
UNKNOWN = Condition(admin="drain")
"""Of a backend that was not checked yet: it serves its connections, and takes no new ones."""


class Active:
    """One life of a director: what its daemon has of a program and its maps, and the model of it."""

    def __init__(self, world: w.World, name: str, now: float) -> None:
        world.empty()
        world.plane = Dataplane(world.tables, world.clock)
        self.world, self.name, self.now = world, name, now
        self.tables = ConnectionTables(
            world.tables,
            world.clock,
            world.tables.loaded.program.with_name("merge"),
            world.plane.rings,
            now=lambda: self.now,
        )
        self.model = Director(w.LOOPBACK, w.mac(w.DIRECTOR_MAC))
        self._plan: ServicePlan | None = None
        self._from: dict[str, Theirs] = {}
        self._unknown: set[str] = set()

    def apply(self, plan: ServicePlan) -> None:
        self._plan = plan
        self.world.plane.apply(plan, self.now)
        self.tell()

    def settle(self) -> None:
        """As a daemon does every few seconds."""
        self.world.plane.settle(self.world.sweep().exceptions, self.now)
        self.tell()

    def tell(self) -> None:
        """The model: what was applied, and the slots as they are now."""
        if self._plan is None:
            return
        plane = self.world.plane
        indices = {name: index for (_, name), index in plane.indices.backends.items()}
        entry = plane.tables.services[plane.indices.services[self._plan.name]]
        start, slots = int(entry["ring_start"]), int(entry["ring_slots"])
        self.model.apply(self._plan, indices, plane.tables.ring[start : start + slots].tolist())

    async def take(self, batch: Batch, other: Active) -> None:
        """Merge what the other one sends."""
        theirs = self._from.setdefault(
            other.name, Theirs(other.tables.states(), is_first=other.name < self.name)
        )
        theirs.named(other.tables.names)
        merged = await self.tables.merge(batch, theirs)
        assert merged.full == 0
        if merged.unknown:
            self._unknown.add(other.name)

    async def scan(self) -> tuple[list[Batch], set[str]]:
        """What is new here, and whose connections are asked for again, as the names mean something else here."""
        batches, renamed = await self.tables.scan()
        asked: set[str] = set()
        if renamed:
            asked, self._unknown = self._unknown, set()
        return batches, asked

    def close(self) -> None:
        self.tables.close()


class Actives:
    """`worlds`: a program for each director that there may be. A context manager."""

    def __init__(self, worlds: list[w.World], driver: Driver, flows: int, first: int) -> None:
        """`first`: so many directors run in the beginning."""
        self._worlds, self._driver, self.flows = worlds, driver, flows
        self._living: dict[int, Active] = {}
        self._conditions: dict[str, Condition] = {}
        self._backends: dict[str, int] = {}
        """By name, the last number of the MAC: one that is added again is another one."""
        self._born = self._opened = self._seed = 0
        self._owner = np.full(ROOM * flows, -1)
        """Of each flow, the backend; -1: it does not run."""
        self._heard = np.zeros(ROOM * flows)
        self.now = 0.0
        self.packets = 0
        for number in range(first):
            self.join(number)

    def __enter__(self) -> Actives:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        while self._living:
            self._living.popitem()[1].close()

    @property
    def running(self) -> Indices:
        return np.flatnonzero(self._owner >= 0)

    @property
    def owners(self) -> set[str]:
        """Backends that have flows."""
        having = set(self._owner[self.running].tolist())
        return {name for name, number in self._backends.items() if number in having}

    # The operator

    def change(self, name: str, condition: Condition | None, order: int = 0) -> None:
        """Add the backend, or change it, or remove it (None): on one director after the other, while clients talk
        through all of them."""
        before = self._serving()
        if condition is None:
            self._conditions.pop(name, None)
            self._owner[self._owner == self._backends.pop(name, -2)] = -1
        else:
            if name not in self._backends:
                self._born += 1
                self._backends[name] = self._born
            self._conditions[name] = condition
        for number in np.random.default_rng(order).permutation(sorted(self._living)).tolist():
            self._living[number].apply(self._plan())
            self._talk(self.some(0.1, order), sorted({*before} & {*self._serving()}))
        self._exchange()

    def join(self, number: int, *, checked: bool = True) -> None:
        """A director that does not run starts, with empty tables, and gets flows once it has the others'
        connections. `checked`: it knew the backends' states before these came; otherwise it learns one after the
        other afterwards, and the router waits for that. Nothing else is changed while its ring is young."""
        if number in self._living:
            return
        joining = Active(self._worlds[number], f"director{number}", self.now)
        joining.apply(self._plan() if checked else self._plan(dict.fromkeys(self._conditions, UNKNOWN)))
        joining.model.moment = max((each.model.moment for each in self._living.values()), default=0)
        asyncio.run(self._introduce(joining))
        learnt = dict.fromkeys(self._conditions, UNKNOWN)
        for name in () if checked else self._conditions:
            learnt[name] = self._conditions[name]
            joining.apply(self._plan(learnt))
        self._living[number] = joining
        self._exchange()
        self.wait(YOUNG + 1)

    async def _introduce(self, joining: Active) -> None:
        await joining.tables.scan()
        for other in self._living.values():
            await other.tables.scan()
            async for batch in other.tables.bulk():
                await joining.take(batch, other)
        exchange([*(each.model for each in self._living.values()), joining.model])
        joining.tell()

    def die(self, number: int) -> None:
        """It is gone, with all that it knew; the last one stays."""
        if number in self._living and len(self._living) > 1:
            self._living.pop(number).close()

    # Time

    def wait(self, seconds: float) -> None:
        """At most SILENCE - 1. Clients say something before their time is up."""
        end = self.now + seconds
        due = self.running[end - self._heard[self.running] > SILENCE - 1]
        self._talk(due, self._serving())
        self._exchange()
        self._pass(end)

    def rest(self) -> None:
        """Until no slot is in flux any more."""
        for _ in range(3):
            self.wait(SILENCE - 1)

    def _pass(self, now: float) -> None:
        self.now = now
        self._owner[self.now - self._heard > SILENCE] = -1
        for each in self._living.values():
            each.now = now
            each.settle()

    # The router

    def rehash(self, seed: int) -> None:
        """Flows take other ways through the directors that there are."""
        self._seed = seed

    def _through(self, flows: Indices) -> Iterable[tuple[Active, Indices]]:
        """Which flows take their way through which director."""
        numbers = sorted(self._living)
        mixed = (flows.astype(np.uint64) + np.uint64(self._seed << 32)) * SPREAD >> np.uint64(40)
        taken = (mixed % np.uint64(len(numbers))).astype(np.int64)
        for place, number in enumerate(numbers):
            yield self._living[number], flows[taken == place]

    # The clients

    def come(self, count: int) -> None:
        """So many flows more, if a backend takes them."""
        count = min(count, len(self._owner) - self._opened)
        new = np.arange(self._opened, self._opened + count)
        self._opened += count
        accepting = self._accepting()
        if accepting:
            self._open(new, accepting)
        self._exchange()

    def speak(self, flows: Indices) -> None:
        """Each that has a living backend goes on."""
        self._talk(flows, self._serving())
        self._exchange()

    def some(self, share: float, seed: int) -> Indices:
        """A part of the flows that run."""
        return self.running[np.random.default_rng(seed).random(len(self.running)) < share]

    def _talk(self, flows: Indices, serving: list[int]) -> None:
        flows = flows[np.isin(self._owner[flows], serving)]
        for kind in KINDS:
            some = flows[np.isin(flows % 10, kind.share)]
            went = self._send(kind, kind.following, some)
            moved = went != self._owner[some]
            assert not moved.any(), self._told(some[moved], went[moved])
        self._heard[flows] = self.now

    def _open(self, flows: Indices, accepting: list[int]) -> None:
        """A handshake's packets take one way. Datagrams of a slot in flux go where its flows were."""
        for kind in KINDS:
            some = flows[np.isin(flows % 10, kind.share)]
            went = self._send(kind, kind.opening, some)
            allowed = self._serving() if kind is UDP4 else accepting
            assert np.isin(went, allowed).all(), f"went to {set(went.tolist())} instead of {allowed}"
            assert (self._send(kind, kind.following, some) == went).all()
            self._owner[some], self._heard[some] = went, self.now

    def _send(self, kind: Kind, frame: bytes, flows: Indices) -> Indices:
        """A frame of each flow by its way; the backends that they reached, -1 for none. The models say the same."""
        went = np.full(len(flows), -1)
        for director, some in self._through(flows):
            clients, ports = FIRST_CLIENT + some // PORTS, FIRST_PORT + some % PORTS * PORT_STEP
            self._driver.aim(director.world)
            destinations = self._driver.send(frame, clients, ports)
            expected = predicted(director.model, kind, frame, clients, ports)
            wrong = np.flatnonzero(destinations != expected)
            assert not len(wrong), (
                f"{director.name}: {len(wrong)} frames left otherwise than the model says: flow "
                f"{some[wrong[0]]} for {destinations[wrong[0]]:#x} instead of {expected[wrong[0]]:#x}"
            )
            backends = (destinations >> np.uint64(40)).astype(np.int64)
            went[np.isin(flows, some)] = np.where(destinations == STAYED, -1, backends)
            self.packets += len(some)
        return went

    def _told(self, flows: Indices, went: Indices) -> str:
        return (
            f"{len(flows)} flows moved at {self.now}: flow {flows[0]}, heard last at {self._heard[flows[0]]}, from "
            f"backend {self._owner[flows[0]]} to {went[0]}; there are {self._backends}, {self._conditions}"
        )

    # Connection sync

    def _exchange(self) -> None:
        """All tell all what is new, and again what was asked for."""
        asyncio.run(self._sync())
        exchange([each.model for each in self._living.values()])
        for each in self._living.values():
            each.tell()

    async def _sync(self) -> None:
        living = list(self._living.values())
        found = [(source, *await source.scan()) for source in living]
        for source, batches, _ in found:
            for target in living:
                for batch in batches if target is not source else ():
                    await target.take(batch, source)
        for target, _, asked in found:
            for source in living:
                if source.name in asked:
                    async for batch in source.tables.bulk():
                        await target.take(batch, source)

    # What there is

    def _serving(self) -> list[int]:
        return [self._backends[name] for name, c in self._conditions.items() if c.state is State.SERVING]

    def _accepting(self) -> list[int]:
        return [self._backends[name] for name, c in self._conditions.items() if c.accepts]

    def _plan(self, conditions: dict[str, Condition] | None = None) -> ServicePlan:
        conditions = self._conditions if conditions is None else conditions
        members = tuple(self._member(name, conditions[name]) for name in sorted(conditions))
        return w.service(scheduler=Scheduler.MH, ring_slots=1021, members=members, on_empty="drop",
                         on_down="drop", on_unknown="drop")  # fmt: skip

    def _member(self, name: str, condition: Condition) -> MemberPlan:
        number = self._backends[name]
        hop = Hop(_mac(number), w.mac(w.DIRECTOR_MAC), w.LOOPBACK)
        address: Any = ip_address(f"192.0.2.{20 + number}")
        return MemberPlan(name, address, condition.weight, condition.state, condition.accepts, hop)


def predicted(model: Director, kind: Kind, frame: bytes, clients: Indices, ports: Indices) -> Any:
    """Where the model sends a frame of each of these clients and ports."""
    client_at, port_at = PLACES[kind]
    made, found = bytearray(frame), np.empty(len(clients), np.uint64)
    for number, (client, port) in enumerate(zip(clients.tolist(), ports.tolist(), strict=True)):
        made[client_at : client_at + 4] = client.to_bytes(4, "big")
        made[port_at : port_at + 2] = port.to_bytes(2, "big")
        fate = model.direct(bytes(made))
        found[number] = mac_number(fate.frame[:6]) if fate.verdict in (w.TX, w.REDIRECT) else STAYED
    return found


def _mac(number: int) -> bytes:
    return bytes((2, 0, 0, 0, 1, number))
