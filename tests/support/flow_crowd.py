# SPDX-License-Identifier: Apache-2.0
"""A hundred thousand clients with a connection each, and the operator of the service that they use.

What is expected is told from what the clients see alone: a flow is its backend's from its first packet on, while
that backend lives and the flow is not silent for longer than its time-out. Nothing of rings or records is known.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

import tests.support.world as w
from tests.support.ring_slots import settle
from tests.support.xdp_driver import STAYED, Driver, mac_number
from xdpdirector.dataplane.service_plan import Hop, MemberPlan, ServicePlan, State
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.model import Scheduler

Indices: TypeAlias = npt.NDArray[np.int64]

SILENCE = w.SERVICE.timeouts.tcp  # seconds, the longest time-out
NAMES = tuple(f"web{number}" for number in range(1, 7))
ROOM = 5  # times the flows that run: later ones have numbers of their own
FIRST_CLIENT, PORTS, FIRST_PORT, PORT_STEP = int(ip_address("198.18.0.0")), 64, 1024, 1009


@dataclass(frozen=True)
class Condition:
    """Of a backend, as the operator and its check have it."""

    weight: int = 1
    admin: str = "enabled"
    up: bool = True

    @property
    def state(self) -> State:
        if self.admin == "maintenance":
            return State.MAINTENANCE
        return State.SERVING if self.up else State.DOWN

    @property
    def accepts(self) -> bool:
        return self.state is State.SERVING and self.admin == "enabled"


@dataclass(frozen=True)
class Kind:
    """Of flow: the frame that opens it, and the one that goes on."""

    opening: bytes
    following: bytes
    share: tuple[int, ...]
    """Which of ten flows are of this kind."""


TCP4 = Kind(bytes(w.tcp("S")), bytes(w.tcp("PA")), (0, 1, 2, 3, 4, 5))
TCP6 = Kind(bytes(w.tcp6("S")), bytes(w.tcp6("PA")), (6, 7, 8))
UDP4 = Kind(bytes(w.udp()), bytes(w.udp()), (9,))
KINDS = (TCP4, TCP6, UDP4)


class Crowd:
    """Flows by number, backends by the last number of their MAC: one that is added again is another one."""

    def __init__(self, world: w.World, driver: Driver, flows: int) -> None:
        self._world, self._driver, self.flows = world, driver, flows
        self._owner = np.full(ROOM * flows, -1)
        """Of each flow, the backend; -1: it does not run."""
        self._heard = np.zeros(ROOM * flows)
        self._opened = self._born = 0
        self._conditions: dict[str, Condition] = {}
        self._backends: dict[str, int] = {}
        self._scheduler = Scheduler.MH
        self.now = 0.0
        self.packets = 0

    @property
    def running(self) -> Indices:
        return np.flatnonzero(self._owner >= 0)

    # The operator

    def change(self, name: str, condition: Condition | None) -> None:
        """Add the backend, or change it, or remove it (None)."""
        if condition is None:
            self._conditions.pop(name, None)
            self._owner[self._owner == self._backends.pop(name, -2)] = -1
        else:
            if name not in self._backends:
                self._born += 1
                self._backends[name] = self._born
            self._conditions[name] = condition
        self._apply()

    def use(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._apply()

    def restart(self) -> None:
        """A new daemon adopts the maps."""
        self._world.plane = Dataplane(self._world.tables, self._world.clock)
        self._apply()

    def sweep(self) -> None:
        settle(self._world, self.now)

    def wait(self, seconds: float) -> None:
        """Clients send something before their time is up, if their backend serves; connections whose is not end."""
        end = self.now + seconds
        while True:
            living = self.running[np.isin(self._owner[self.running], self._serving())]
            last = min(self._heard[living], default=end) + SILENCE - 1
            if last >= end:
                break
            self.now = max(self.now, last)
            self.speak(living)
            self.sweep()
        self.now = end
        self._owner[self.now - self._heard > SILENCE] = -1
        self.sweep()

    # The clients

    def fill(self, more: int = 0) -> None:
        """So many flows more, and as many as are missing."""
        self.come(max(more, self.flows - len(self.running)))

    def come(self, count: int) -> None:
        """So many flows more, as far as there are numbers for them."""
        count = min(count, len(self._owner) - self._opened)
        new = np.arange(self._opened, self._opened + count)
        self._opened += count
        self._open(new)

    def reopen(self) -> None:
        """TCP clients whose backend does not serve try again, from the same port."""
        flows = self.running[~np.isin(self._owner[self.running], self._serving())]
        self._open(flows[~np.isin(flows % 10, UDP4.share)])

    def speak(self, flows: Indices) -> None:
        """Each goes on: to its backend, and nowhere if that does not serve. A datagram then opens a flow anew."""
        for kind in KINDS:
            some = flows[np.isin(flows % 10, kind.share)]
            owners, went = self._owner[some], self._send(kind.following, some)
            serves = np.isin(owners, self._serving())
            wrong = went[serves] != owners[serves]
            assert not wrong.any(), self._misled(some[serves][wrong], went[serves][wrong])
            allowed = self._accepting() if kind is UDP4 else []
            self._require(went[~serves], allowed or [-1])
            if allowed:
                self._owner[some[~serves]] = went[~serves]
            self._heard[some[serves | (went >= 0)]] = self.now

    def some(self, share: float, seed: int) -> Indices:
        """A part of the flows that run."""
        return self.running[np.random.default_rng(seed).random(len(self.running)) < share]

    # How

    def _open(self, flows: Indices) -> None:
        """Datagrams that open a flow go where the flows of their slot go, be it draining."""
        for kind in KINDS:
            some = flows[np.isin(flows % 10, kind.share)]
            went = self._send(kind.opening, some)
            allowed = self._serving() if kind is UDP4 else self._accepting()
            self._require(went, (allowed if self._accepting() else [*allowed, -1]) or [-1])
            self._owner[some], self._heard[some] = went, self.now

    def _send(self, frame: bytes, flows: Indices) -> Indices:
        clients, ports = FIRST_CLIENT + flows // PORTS, FIRST_PORT + flows % PORTS * PORT_STEP
        destinations = self._driver.send(frame, clients, ports)
        self.packets += len(flows)
        backends = (destinations >> np.uint64(40)).astype(np.int64)
        known = destinations == STAYED
        known |= destinations == backends.astype(np.uint64) << np.uint64(40) | mac_number(_mac(0))
        assert known.all(), f"left for {destinations[~known][0]:#x}"
        return np.where(destinations == STAYED, -1, backends)

    @staticmethod
    def _require(went: Indices, allowed: list[int]) -> None:
        assert np.isin(went, allowed).all(), f"went to {set(went.tolist())} instead of {allowed}"

    def _misled(self, flows: Indices, went: Indices) -> str:
        return (
            f"{len(flows)} flows went elsewhere at {self.now}: flow {flows[0]}, heard last at "
            f"{self._heard[flows[0]]}, of backend {self._owner[flows[0]]} to {went[0]}; there are "
            f"{self._backends}, {self._conditions}"
        )

    def _serving(self) -> list[int]:
        return [self._backends[name] for name, c in self._conditions.items() if c.state is State.SERVING]

    def _accepting(self) -> list[int]:
        return [self._backends[name] for name, c in self._conditions.items() if c.accepts]

    def _apply(self) -> None:
        self._world.apply(self._plan(), now=self.now)

    def _plan(self) -> ServicePlan:
        members = tuple(self._member(name) for name in sorted(self._conditions))
        plan = w.service(scheduler=self._scheduler, ring_slots=4093, members=members)
        return replace(plan, on_empty="drop", on_down="drop", on_unknown="drop")

    def _member(self, name: str) -> MemberPlan:
        condition, number = self._conditions[name], self._backends[name]
        hop = Hop(_mac(number), w.mac(w.DIRECTOR_MAC), w.LOOPBACK)
        address: Any = ip_address(f"192.0.2.{20 + number}")
        return MemberPlan(name, address, condition.weight, condition.state, condition.accepts, hop)


def _mac(number: int) -> bytes:
    return bytes((2, 0, 0, 0, 1, number))
