# SPDX-License-Identifier: Apache-2.0
"""What holds of backends while the director's own network is at fault: the last way that was sound, for a while.

    an own address, a route, the carrier is gone      the last MAC serves for the grace time
    that is over                                      no frame leaves; no verdict on the backend follows
    the interface does not exist                      the same at once; whoever opens a connection has to wait
    the fault is mended                               the same, until its MAC is known again, or was asked for in
                                                      vain for SETTLE seconds

Pure: knows neither sockets nor time; the caller says both. Whose silence is whose fault is decided in `next_hop`.
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
NAMED = 3  # backends that a sentence names


class Decision(NamedTuple):
    """The way to be used from now on, and when that may change although nothing happens."""

    route: Route
    look_again: float | None = None


@dataclass
class _Kept:
    """The last sound way; `network` is the own one that contained the address. While the director is at fault:
    `since` and, when it is mended, `mended`; `why` in words; whether the way still serves."""

    route: Route
    network: Network | None
    since: float | None = None
    mended: float | None = None
    why: str = ""
    serves: bool = True


class Grace:
    """`seconds`: for how long the last MAC serves."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._kept: dict[Address, _Kept] = {}
        self._disturbed: dict[Address, float] = {}

    def see(self, address: Address, found: Route, links: Mapping[int, Interface], now: float) -> Decision:
        """`found`: what the kernel's tables say at this moment."""
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
        """Something was wrong at this moment, and perhaps is no more; the way with that mark."""
        self._disturbed[address] = now
        return self._dated(address, route)

    def forget(self, address: Address) -> None:
        self._kept.pop(address, None)
        self._disturbed.pop(address, None)

    def faults(self) -> list[str]:
        """A sentence for each fault that lasts."""
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
    """Without an interface there is none; one without a carrier loses what is sent, and is better than a reset."""
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
    """Without the backend's own address, where it can be: many backends have one cause."""
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
    """The interface's own address in the network of this one; not of a point-to-point kind, such as a VIP."""
    return next((each for each in link.networks if address in each.network), None) if link else None


def listed(addresses: Collection[Address]) -> str:
    """The first few of them."""
    named = [str(address) for address in addresses][:NAMED]
    more = f" and {len(addresses) - NAMED} more" if len(addresses) > NAMED else ""
    return ", ".join(named) + more
