# SPDX-License-Identifier: Apache-2.0
"""Tracks the MACs of watched addresses from the kernel's tables; keeps neighbours resolved and probed.

rtnetlink events only trigger a read; the tables' present contents are authoritative, so a lost or late event
cannot leave an old MAC behind. Knows nothing of services, backends or maps: `next_hop` interprets the tables,
`next_hop_grace` handles faults of this host's own network, `neighbour_requests` talks to the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface
from itertools import islice
from socket import AF_INET, AF_INET6, AF_UNSPEC
from typing import Protocol

from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_DELLINK, RTM_DELNEIGH, RTM_NEWLINK, RTM_NEWNEIGH

from xdpdirector.model import Address
from xdpdirector.model.lan import LanSpec
from xdpdirector.net.interfaces import Interface, held_by, interface_of
from xdpdirector.net.neighbour_requests import Neighbourhood
from xdpdirector.net.netlink import Events, Message, Requests
from xdpdirector.net.next_hop import (
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_STALE,
    STATIC,
    USABLE,
    Hop,
    Neighbour,
    Route,
    asking,
    judge,
    without_room,
)
from xdpdirector.net.next_hop_grace import Grace, listed
from xdpdirector.system.background_tasks import BackgroundTasks

__all__ = ["NeighbourTable", "Neighbours", "Route"]

log = logging.getLogger(__name__)

# RTNLGRP_* of linux/rtnetlink.h: link, neigh; IPv4 address, route, rule; the same of IPv6; next hop objects.
GROUPS = (1, 3, 5, 7, 8, 9, 11, 19, 32)
DECODED = (RTM_NEWLINK, RTM_DELLINK, RTM_DELADDR, RTM_NEWNEIGH, RTM_DELNEIGH)

ASK_AGAIN = 1.0  # seconds
FIRST_ANSWER_WITHIN = 4.0  # seconds; the kernel sends three requests a second apart before an entry is failed
ASK_FOR_MISSING = 0.1  # seconds; not at once, because a full table drops entries as fast as they are made
REMEMBER = 0.3  # seconds that a MAC stays in use after its entry vanished; promised: under a second
READ_ALL_AGAIN = 30.0  # seconds; for changes without an event, such as a sysctl
MAC_CHANGE = 1.0  # seconds until neighbours have learned a new MAC of this host
PASSES_APART = 0.2  # seconds between two full reads, however many routes flap
AT_ONCE = 16  # addresses read before other tasks of the event loop run

DEFAULT_GRACE = LanSpec().grace

OnChange = Callable[[Address], None]
OnLinks = Callable[[Collection[Interface]], None]


class NeighbourTable(Protocol):
    """Interface that the director needs. Implemented by `Neighbours` and `FakeNeighbours`."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    def watch(self, address: Address) -> None:
        """Start to track the address; idempotent. The first result is reported as a change."""

    def unwatch(self, address: Address) -> None:
        """Stop tracking; unknown addresses are ignored."""

    def get(self, address: Address) -> Route:
        """The present route; for an address that is not watched, it is read now."""

    def faults(self) -> list[str]:
        """One sentence for each fault of this host's own network that affects watched addresses."""


@dataclass
class _Kept:
    """What the kernel was asked to resolve: address, interface, time of the last request, and whether the kernel
    keeps it resolved."""

    target: Address
    ifindex: int
    asked: float
    managed: bool = False


class Neighbours:
    """Tracks addresses in the kernel's tables. All calls on one asyncio loop; `on_change(address)` is called
    there, for actual changes only.

    `on_links` gets all interfaces after each read: at the start and after each change. `watch` reads at once,
    so `get` is valid right after it. `overflows` counts receive buffer overflows, after which everything was
    read again.
    """

    def __init__(
        self,
        on_change: OnChange,
        on_links: OnLinks = lambda links: None,
        tasks: BackgroundTasks | None = None,
        *,
        grace: float = DEFAULT_GRACE,
        neighbourhood: Callable[[Requests], Neighbourhood] = Neighbourhood,
        routed: bool = False,
    ) -> None:
        """`grace`: how many seconds the last MAC stays in use when this host's own network fails.
        `neighbourhood`: requests to the kernel. `routed`: addresses may be behind gateways, whose MACs are found
        then."""
        self.overflows = 0
        self._tasks = tasks or BackgroundTasks()
        self._on_change, self._on_links = on_change, on_links
        self._grace = Grace(grace)
        self._routed = routed
        self._gateways: dict[Address, Address] = {}
        self._behind: dict[Address, set[Address]] = {}
        """Watched addresses by the gateway that leads to them, the reverse of `_gateways`."""
        self._neighbourhood = neighbourhood
        self._routes: dict[Address, Route] = {}
        self._links: dict[int, Interface] = {}
        self._kept: dict[Address, _Kept] = {}
        self._remembered_until: dict[Address, float] = {}
        self._full: set[Address] = set()
        """Addresses for which the kernel's table was full at the last request."""
        self._look_again: dict[Address, float] = {}
        self._asking_until: dict[Address, float] = {}
        self._dirty: dict[Address, None] = {}
        self._flush_handle: asyncio.Handle | None = None
        self._pass_handle: asyncio.Handle | None = None
        self._last_pass = 0.0
        self._upkeep_task: asyncio.Task[None] | None = None
        self._sockets = contextlib.ExitStack()

    async def start(self) -> None:
        """Open the sockets in the calling thread's network namespace. OSError when the kernel refuses."""
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            self._kernel = self._neighbourhood(stack.enter_context(Requests()))
            self._events = Events(GROUPS, self._heard, self._overflown, decode=DECODED)
            stack.callback(self._events.close)
            self._read_links()
            self._kernel.release_leftovers()
            self._last_pass = self._loop.time()
            self._sockets = stack.pop_all()
        self._upkeep_task = self._tasks.start("the upkeep of neighbours", self._upkeep)

    async def close(self) -> None:
        """Make the managed entries ordinary ones again."""
        if self._upkeep_task:
            self._upkeep_task.cancel()
            await asyncio.wait([self._upkeep_task])
        for handle in (self._flush_handle, self._pass_handle):
            if handle:
                handle.cancel()
        for address in list(self._routes):
            self.unwatch(address)
        self._sockets.close()

    def watch(self, address: Address) -> None:
        if address not in self._routes:
            if self._routed and not self._routes:
                self._read_links()  # see `_pass`
            self._routes[address] = Route("unresolved", why=f"{address} was not looked for yet")
            self._asking_until[address] = self._loop.time() + FIRST_ANSWER_WITHIN
            self._loop.call_at(self._asking_until[address], self._mark, address)
            self._refresh(address)

    def unwatch(self, address: Address) -> None:
        self._routes.pop(address, None)
        self._remembered_until.pop(address, None)
        self._look_again.pop(address, None)
        self._asking_until.pop(address, None)
        self._grace.forget(address)
        self._full.discard(address)
        self._lead(address, None)
        kept = self._kept.pop(address, None)
        if kept:
            self._release(kept)

    def _lead(self, address: Address, gateway: Address | None) -> None:
        """From now on this gateway leads to the address."""
        before = self._gateways.pop(address, None)
        if before:
            self._behind[before].discard(address)
            if not self._behind[before]:
                del self._behind[before]
        if gateway:
            self._gateways[address] = gateway
            self._behind.setdefault(gateway, set()).add(address)

    def _release(self, kept: _Kept) -> None:
        """Other addresses may be behind the same gateway."""
        theirs = self._kept.values() if self._routed else ()
        if all((other.target, other.ifindex) != (kept.target, kept.ifindex) for other in theirs):
            self._kernel.release(kept.target, kept.ifindex)

    def get(self, address: Address) -> Route:
        return self._routes.get(address) or self._read(address)[0]

    def faults(self) -> list[str]:
        without: dict[str, list[Address]] = {}
        for address in self._full:
            if (route := self._routes.get(address)) and route.mac is None:
                without.setdefault(route.why, []).append(address)
        return [
            *self._grace.faults(),
            *(f"{why}. {listed(those)} cannot be found" for why, those in without.items()),
        ]

    # Reading

    def _read_links(self) -> None:
        before, self._links = self._links, self._kernel.links()
        self._on_links(self._links.values())
        for index, link in self._links.items():
            if index in before and link.mac != before[index].mac:
                self._disturb(self._by(index), MAC_CHANGE)

    def _read(self, address: Address) -> tuple[Route, Neighbour | None]:
        hop = self._kernel.hop(address)
        if hop and hop.ifindex not in self._links:
            self._read_links()
        neighbour = self._kernel.neighbour(self._target(address, hop), hop.ifindex) if hop else None
        if hop and (neighbour is None or not neighbour.state & ~NUD_INCOMPLETE):
            shown = self._remembered(address, hop)
        else:
            self._remembered_until.pop(address, None)
            shown = None
        found = judge(address, hop, shown or neighbour, self._links, routed=self._routed)
        if address in self._full and neighbour is None and found.kind == "unresolved" and not found.fault:
            room = self._kernel.room(address.version)
            found = without_room(found, address, room.most if room else 0)
        return found, neighbour

    def _target(self, address: Address, hop: Hop) -> Address:
        return hop.target(address) if self._routed else address

    def _remembered(self, address: Address, hop: Hop) -> Neighbour | None:
        """A deleted or flushed entry is requested again at once; until the answer, its last MAC stays in use."""
        before = self._routes.get(address)
        if before is None or before.mac is None or before.ifindex != hop.ifindex or before.fault:
            return None
        if self._target(address, hop) != (before.gateway or address):
            return None
        now = self._loop.time()
        if address not in self._remembered_until:
            self._remembered_until[address] = now + REMEMBER
            self._loop.call_later(REMEMBER, self._mark, address)
        if now < self._remembered_until[address]:
            return Neighbour(NUD_STALE, before.mac)
        del self._remembered_until[address]
        return None

    # Keeping neighbours resolved

    def _keep(self, address: Address, route: Route, neighbour: Neighbour | None) -> None:
        kept, target = self._kept.get(address), route.gateway or address
        if kept and (kept.target, kept.ifindex) != (target, route.ifindex):
            del self._kept[address]
            self._release(kept)
            kept = None
        if not self._keepable(route, neighbour):
            return
        now = self._loop.time()
        managed = neighbour is not None and neighbour.managed
        if kept:
            kept.managed = managed
        if kept and managed and route.kind == "neighbour":
            return
        patience = ASK_AGAIN if neighbour else ASK_FOR_MISSING
        if kept and now < kept.asked + patience:
            if not neighbour:
                self._loop.call_at(kept.asked + patience, self._mark, address)
            return
        self._kept[address] = _Kept(target, route.ifindex, now, managed)
        was_full = address in self._full
        (self._full.discard if self._kernel.ask(target, route.ifindex) else self._full.add)(address)
        if (address in self._full) != was_full:
            self._mark(address)

    def _keepable(self, route: Route, neighbour: Neighbour | None) -> bool:
        """False for entries set by an operator: NTF_USE would make a permanent entry an ordinary one."""
        link = self._links.get(route.ifindex)
        by_hand = neighbour is not None and neighbour.state & STATIC
        return route.kind in ("neighbour", "unresolved") and link is not None and link.up and not by_hand

    async def _upkeep(self) -> None:
        while True:
            await asyncio.sleep(ASK_AGAIN)
            for address, route in self._routes.items():
                kept = self._kept.get(address)
                if route.kind == "unresolved" or route.fault or (kept and not kept.managed):
                    self._mark(address)
            if self._loop.time() - self._last_pass > READ_ALL_AGAIN:
                self._mark_all()

    # Following changes

    def _heard(self, kind: int, message: Message | None) -> None:
        if message is not None and kind in (RTM_NEWNEIGH, RTM_DELNEIGH):
            if message["family"] in (AF_INET, AF_INET6):
                changed = ip_address(message.get_attr("NDA_DST"))
                for address in (changed, *self._behind.get(changed, ())):
                    self._mark(address)
            return
        if message is not None:
            self._note_loss(kind, message)
        if message is None or kind not in (RTM_NEWLINK, RTM_DELLINK) or self._link_changed(kind, message):
            self._mark_all()
        if message is not None and kind == RTM_NEWLINK:
            self._see_mac(message)

    def _note_loss(self, kind: int, message: Message) -> None:
        """Mark addresses as disturbed by a loss, even one that is over before the tables are read, as when a
        network manager reconfigures an interface: checks have failed meanwhile."""
        lost: list[Address] = []
        if kind == RTM_DELADDR:
            gone = held_by(message)
            network = ip_interface((gone.address, gone.prefix)).network
            lost = [address for address in self._routes if address in network]
        elif message["family"] == AF_UNSPEC and (kind == RTM_DELLINK or not interface_of(message).up):
            lost = self._by(message["index"])
        self._disturb(lost)

    def _disturb(self, addresses: Collection[Address], for_seconds: float = 0.0) -> None:
        until = self._loop.time() + for_seconds
        for address in addresses:
            self._routes[address] = self._grace.disturb(address, self._routes[address], until)

    def _by(self, ifindex: int) -> list[Address]:
        """Addresses whose route uses this interface."""
        return [address for address, route in self._routes.items() if ifindex in (route.ifindex, route.wire)]

    def _see_mac(self, message: Message) -> None:
        """Report a new MAC of this host at once: the kernel already accepts frames for it, also those of
        connections that only the packet program knows."""
        known, told = self._links.get(message["index"]), interface_of(message)
        if message["family"] != AF_UNSPEC or known is None or told.mac == known.mac:
            return
        if (now := self._kernel.link(known.index)) and now.mac != known.mac:
            self._links = {**self._links, known.index: replace(known, mac=now.mac)}
            self._on_links(self._links.values())
            self._disturb(self._by(known.index), MAC_CHANGE)

    def _link_changed(self, kind: int, message: Message) -> bool:
        """Ignore messages without relevant changes: bridges announce their ports as links of another family,
        and links change in fields that are not used here."""
        if message["family"] != AF_UNSPEC:
            return False
        known, now = self._links.get(message["index"]), interface_of(message)
        return kind == RTM_DELLINK or known is None or not now.same_link(known)

    def _overflown(self) -> None:
        self.overflows += 1
        log.info("rtnetlink receive buffer overflow: reading all tables again")
        self._mark_all()

    def _mark(self, address: Address) -> None:
        if address in self._routes:
            self._dirty[address] = None
            self._flush_soon()

    def _mark_all(self) -> None:
        if not self._pass_handle:
            self._pass_handle = self._loop.call_at(self._last_pass + PASSES_APART, self._pass)

    def _pass(self) -> None:
        self._pass_handle = None
        self._last_pass = self._loop.time()
        if self._routed and not self._routes:
            return  # most directors have no tunnels
        try:
            self._read_links()
        except OSError as error:
            log.warning("the interfaces cannot be read, trying again: %s", error)
            self._mark_all()
            return
        self._dirty.update(dict.fromkeys(self._routes))
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._dirty and not self._flush_handle:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        for address in list(islice(self._dirty, AT_ONCE)):
            del self._dirty[address]
            if address in self._routes:
                self._refresh(address)
        self._flush_soon()

    def _refresh(self, address: Address) -> None:
        found, neighbour = self._read(address)
        found = self._before_first_answer(address, found, neighbour)
        route, look_again = self._grace.see(address, found, self._links, self._loop.time())
        if look_again is not None and look_again != self._look_again.get(address):
            self._look_again[address] = look_again
            self._loop.call_at(look_again, self._mark, address)
        self._lead(address, found.gateway)
        before, self._routes[address] = self._routes[address], route
        if route != before:
            self._loop.call_soon(self._tell, address)
        self._keep(address, found, neighbour)

    def _before_first_answer(self, address: Address, found: Route, neighbour: Neighbour | None) -> Route:
        """True for an address never resolved before, until the kernel gives up: it has not failed yet."""
        until = self._asking_until.get(address)
        if until is None or found.fault:
            return found
        decided = neighbour is not None and neighbour.state & (NUD_FAILED | USABLE)
        if found.kind != "unresolved" or decided or self._loop.time() >= until:
            del self._asking_until[address]
            return found
        return asking(address, found)

    def _tell(self, address: Address) -> None:
        if address in self._routes:
            self._on_change(address)
