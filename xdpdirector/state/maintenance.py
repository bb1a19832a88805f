# SPDX-License-Identifier: Apache-2.0
"""Directors that leave for maintenance: who is to, and how far one is. Pure: knows neither packets nor etcd.

               drain                   VIPs gone, no flow left, and
                                       no packet for QUIET seconds
    enabled ───────────► draining ───────────────────────────────► drained
       ▲                  │    ▲                                      │
       │      enable      │    └────── a packet, a flow, a VIP ───────┤
       └──────────────────┴──────────────────── enable ───────────────┘

What is wanted (`Order`) is stored, and outlives the daemon. How far it is (`DirectorDrain`) is found anew by each
daemon. A director goes on forwarding in all three states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from xdpdirector.errors import ConflictError, NotFoundError
from xdpdirector.model.fleet import DrainState

QUIET = 5.0
"""Seconds without a forwarded packet, after which traffic has gone elsewhere: a router or VRRP has moved it by
then, and clients repeat what they sent within these."""


@dataclass(frozen=True)
class Order:
    """That a director shall leave. `since`: when it was given, by the clock of the director that took it."""

    author: str
    reason: str
    since: datetime


Orders = Mapping[str, Order]
"""By the name of a director; one that is not there is enabled."""


class OrderStore(Protocol):
    """Where orders are kept."""

    def load(self) -> Orders:
        """As they are known now, without waiting. StoreError."""

    def refresh(self) -> None:
        """Ask what they are now; it may wait for the network. StoreError."""

    def keep(self, name: str, order: Order | None) -> None:
        """Store an order, or with None that there is none. SupersededError when they are not as `load` said last;
        StoreError."""


@dataclass(frozen=True)
class Sight:
    """What a director sees of itself. `at`: monotonic seconds; `flows`: that are left here; `packets`: forwarded
    since the program was loaded; `vips`: that stand here."""

    at: float
    flows: int
    packets: int
    vips: tuple[str, ...] = ()


class DirectorDrain:
    """How far one director is. `state` changes by `order` and by `see` alone."""

    def __init__(self) -> None:
        self.state = DrainState.ENABLED
        self.at_start = 0
        """The most flows that were seen since it began."""
        self.packets_per_second = 0.0
        self.last: Sight | None = None
        self._quiet_since = 0.0

    def order(self, drain: bool) -> bool:
        """Whether that changes the state."""
        before = self.state
        if not drain:
            self.state = DrainState.ENABLED
        elif before is DrainState.ENABLED:
            self.state, self.last, self.at_start = DrainState.DRAINING, None, 0
        return self.state is not before

    def see(self, sight: Sight) -> bool:
        """Take this in, while it drains. Whether the state is another one now."""
        before, last = self.state, self.last
        if before is DrainState.ENABLED:
            return False
        if last is None or sight.packets != last.packets:
            self._quiet_since = sight.at
        if last is not None and sight.at > last.at:
            self.packets_per_second = (sight.packets - last.packets) / (sight.at - last.at)
        self.last, self.at_start = sight, max(self.at_start, sight.flows)
        self.state = DrainState.DRAINING if self.obstacles() else DrainState.DRAINED
        return self.state is not before

    def obstacles(self) -> list[str]:
        """A phrase for each thing that keeps it from being drained."""
        sight = self.last
        if sight is None:
            return ["it was not looked at yet"]
        found = []
        if sight.vips:
            verb = "stands" if len(sight.vips) == 1 else "stand"
            found.append(f"{', '.join(sight.vips)} still {verb} on it")
        if sight.flows:
            verb = "flow is" if sight.flows == 1 else "flows are"
            found.append(f"{sight.flows} {verb} left on it")
        if sight.at - self._quiet_since < QUIET:
            found.append(f"it forwarded packets within the last {QUIET:.0f} s")
        return found


def require_known(name: str, known: Mapping[str, object], orders: Orders) -> None:
    """NotFoundError. `known`: the live directors, by name."""
    if name not in known and name not in orders:
        names = ", ".join(sorted({*known, *orders}))
        raise NotFoundError(f"no director '{name}' is known: there are {names}")


def require_successor(name: str, ready: Mapping[str, bool], orders: Orders) -> None:
    """ConflictError when no other director could take the traffic. `ready`: of the live ones, by name."""
    others = {each: is_ready for each, is_ready in ready.items() if each != name}
    if not others:
        return  # who is alone has nobody to ask, and may have a peer that does not share the state
    if not any(is_ready and each not in orders for each, is_ready in others.items()):
        raise ConflictError(
            f"no other director is ready to take the traffic of '{name}' ({', '.join(sorted(others))} "
            f"{'is' if len(others) == 1 else 'are'} not): enable one first, or say force=true"
        )
