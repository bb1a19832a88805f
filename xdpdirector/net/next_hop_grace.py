# SPDX-License-Identifier: Apache-2.0
"""Which route to use while the director's own network has a fault: the last usable one, for a grace time.

    an own address, a route or the carrier is gone   the last MAC stays in use for the grace time
    after the grace time                             no frame leaves; the backend's health does not change
    the interface does not exist                     the same at once; new connections have to wait
    the fault has ended                              the same, until the MAC is resolved again or SETTLE seconds
                                                     have passed without an answer

Pure: no sockets, no clock; the caller passes both. `next_hop` decides what is a fault.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import NamedTuple

from xdpdirector.model import Address
from xdpdirector.net.interfaces import Interface, Network
from xdpdirector.net.next_hop import Route

SETTLE = (
    3.0  # seconds: the kernel asks three times for a MAC, a second apart (mcast_solicit, retrans_time_ms)
)
NAMED = 3  # backends named in a sentence


class Decision(NamedTuple):
    """The route to use from now on, and when to decide again although no event occurs."""

    route: Route
    look_again: float | None = None


@dataclass
class _Kept:
    """The last usable route; `network`: the director's own network that contained the address. During a
    fault: its start `since`, its end `mended`, `why` as a sentence, and whether the route is still in use."""

    route: Route
    network: Network | None
    since: float | None = None
    mended: float | None = None
    why: str = ""
    serves: bool = True


class Grace:
    """`seconds`: how long the last MAC stays in use."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: dict[Address, _Kept] = {}
        self._disturbed: dict[Address, float] = {}

    def see(self, address: Address, found: Route, links: Mapping[int, Interface], now: float) -> Decision:
        """Decide. `found`: the present route according to the kernel's tables."""
        kept = self._kept.get(address)
        if found.kind in ("neighbour", "local"):
            if kept and kept.since is not None:
                self._disturbed[address] = now
            self._kept[address] = _Kept(found, _network(address, links.get(found.ifindex)))
            return Decision(self._dated(address, found))
        if found.fault:
            self._disturbed[address] = now
        if kept is None:
            return Decision(self._dated(address, found))
        if found.fault:
            if kept.since is None:
                kept.since = now
            kept.mended = None
            kept.why = _why(address, kept, found, links)
            until = kept.since + self._seconds
            kept.serves = now < until
        elif kept.since is None:
            del self._kept[address]
            return Decision(self._dated(address, found))
        else:
            self._disturbed[address] = now
            if kept.mended is None:
                kept.mended = now
            until = max(kept.since + self._seconds, kept.mended + SETTLE)
            if now >= until:
                del self._kept[address]
                return Decision(self._dated(address, found))
        return Decision(self._dated(address, _used(kept, links)), until if until > now else None)

    def disturb(self, address: Address, route: Route, now: float) -> Route:
        """Mark the route as disturbed at this time, although the fault may be over; returns the marked route."""
        self._disturbed[address] = now
        return self._dated(address, route)

    def forget(self, address: Address) -> None:
        self._kept.pop(address, None)
        self._disturbed.pop(address, None)

    def faults(self) -> list[str]:
        """One sentence for each present fault."""
        concerned: dict[tuple[str, bool], list[Address]] = {}
        for address, kept in self._kept.items():
            if kept.since is not None and kept.mended is None:
                concerned.setdefault((kept.why, kept.serves), []).append(address)
        return [
            f"the director's own network is at fault, not a backend: {why}. {self._consequence(serves, addresses)}"
            for (why, serves), addresses in concerned.items()
        ]

    def _consequence(self, serves: bool, addresses: list[Address]) -> str:
        if serves:
            return f"{listed(addresses)}: what was known last holds, for {self._seconds:g} s at most"
        return (
            f"{listed(addresses)}: no packet is sent there until this is mended, and no connection is reset"
        )

    def _dated(self, address: Address, route: Route) -> Route:
        return replace(route, disturbed=self._disturbed.get(address, -inf))


def _used(kept: _Kept, links: Mapping[int, Interface]) -> Route:
    """The last route, if its interface exists. Without a carrier frames are lost, which is better than a
    reset."""
    last, link = kept.route, links.get(kept.route.ifindex)
    if not kept.serves or link is None or link.name != last.interface:
        return Route(
            "unresolved",
            ifindex=link.index if link else 0,
            interface=last.interface,
            why=kept.why,
            fault=kept.why,
            is_cut=True,
            is_held=kept.serves or kept.mended is not None,
        )
    source = link.mac if last.source_mac else None
    return replace(last, source_mac=source, why=kept.why, fault=kept.why, is_cut=not link.up, is_held=True)


def _why(address: Address, kept: _Kept, found: Route, links: Mapping[int, Interface]) -> str:
    """The cause, without the backend's own address where possible: many backends have one cause."""
    name, network = kept.route.interface, kept.network
    link = next((each for each in links.values() if each.name == name), None)
    if link is None:
        return f"interface {name} does not exist any more"
    if not link.up:
        return f"interface {name} is down or has no carrier"
    if network and network not in link.networks:
        return f"the address {network} is gone from {name}"
    if found.kind == "unresolved":
        return found.fault
    return f"no route leads to {network.network if network else address} by {name} any more"


def _network(address: Address, link: Interface | None) -> Network | None:
    """The interface's own network that contains the address; none for point-to-point addresses (/32, /128),
    such as a VIP."""
    return next((each for each in link.networks if address in each.network), None) if link else None


def listed(addresses: Collection[Address]) -> str:
    """The first few, as text."""
    named = [str(address) for address in addresses][:NAMED]
    more = f" and {len(addresses) - NAMED} more" if len(addresses) > NAMED else ""
    return ", ".join(named) + more
