# SPDX-License-Identifier: Apache-2.0
"""Adds VIPs to the director's interfaces, announces them, and removes only those that it added.

An address attracts packets to its interface, and without the packet program the host's own kernel would
answer them with a RST. So an interface gets VIPs only once the program is attached.

Addresses that we add are marked in the kernel (IFA_PROTO, Linux 5.18), so a restarted daemon recognizes them.
An older kernel drops the mark; then only addresses added by this process are ever removed. An address added
by anybody else counts as present and is left alone. Nothing is removed on exit: packets are still forwarded.
Knows nothing of services or backends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_NEWADDR

from xdpdirector.errors import DataplaneError, NotAllowedError
from xdpdirector.model import Address
from xdpdirector.net.address_messages import PROTOCOL, addition, removal
from xdpdirector.net.arp_flux import ArpFlux
from xdpdirector.net.garp import announcement
from xdpdirector.net.interfaces import Held, Interface, addresses, everything
from xdpdirector.net.netlink import Events, Requests
from xdpdirector.system.background_tasks import BackgroundTasks

log = logging.getLogger(__name__)

GROUPS = (1, 5, 9)  # RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
TIMES, APART = 3, 0.1  # how often an address is announced; seconds between announcements
LOOKS_APART = 0.2  # seconds


class VipTable(Protocol):
    """Interface that the director needs. Implemented by `Vips` and `FakeVips`."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    async def ensure(self, wanted: Iterable[Address]) -> None:
        """Make exactly these the VIPs on the interfaces. DataplaneError or NotAllowedError name those that
        could not be added."""

    def present(self, address: Address) -> bool:
        """True if any interface has the address now."""

    def is_routed(self, address: Address) -> bool:
        """True if this host need not have the address: VIPs are managed by others, and this host is a router
        that receives the packets routed through it."""

    def look_soon(self) -> None:
        """Look soon: an interface may have got the packet program."""

    def notes(self) -> list[str]:
        """A sentence for each wanted VIP that the kernel does not accept here, where that is not an error of
        `ensure`."""


FORWARDING = {
    4: Path("/proc/sys/net/ipv4/ip_forward"),
    6: Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}


class Vips:
    """Manages VIPs on the running loop, in the network namespace of its thread.

    `interfaces`: names, the preferred one first. With `manage=False` it only reports. `on_change(address)` is
    called when a wanted address was added or removed. A wanted address that was removed, or that was lost
    with its interface, is added again. `carrying`: returns the names of the interfaces with the packet
    program; without it, all have it. When an interface gets another MAC, its addresses are announced, as the
    kernel does with `arp_notify`. `arp_ignore`, `memory`: other interfaces do not answer ARP for VIPs while
    there are any; see `arp_flux`.
    """

    def __init__(
        self,
        interfaces: Sequence[str],
        *,
        manage: bool = True,
        on_change: Callable[[Address], None] = lambda address: None,
        carrying: Callable[[], Collection[str]] | None = None,
        arp_ignore: bool = False,
        memory: Path | None = None,
        tasks: BackgroundTasks | None = None,
    ) -> None:
        self._names, self._tasks = tuple(interfaces), tasks or BackgroundTasks()
        self._manage, self._on_change, self._carrying = manage, on_change, carrying
        self._arp_ignore, self._memory = arp_ignore and manage, memory
        self._wanted: frozenset[Address] | None = None
        self._present: frozenset[Address] = frozenset()
        self._told: frozenset[Address] = frozenset()
        self._links: dict[str, Interface] = {}
        self._all_links: dict[int, Interface] = {}
        self._announced: dict[tuple[int, Address], Interface] = {}
        self._placed: set[tuple[int, Address]] = set()
        self._complaints: list[str] = []
        self._look_handle: asyncio.Handle | None = None
        self._announcements: set[asyncio.Task[None]] = set()
        self._sockets = contextlib.ExitStack()

    async def start(self) -> None:
        """Start to track the interfaces, and announce present addresses; changes nothing."""
        self._loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            self._requests = stack.enter_context(Requests())
            # Open it now: a process that runs out of descriptors later must still be able to announce.
            self._wire = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            self._wire.setblocking(False)
            self._flux = ArpFlux(self._requests, self._memory)
            events = Events(GROUPS, lambda *_: self.look_soon(), self.look_soon)
            stack.callback(events.close)
            # The interface may have got another MAC while no daemon was running.
            self._announce_again(self._read())
            self._sockets = stack.pop_all()

    async def close(self) -> None:
        """Stop tracking and announcing; the addresses stay."""
        if self._look_handle:
            self._look_handle.cancel()
        for task in self._announcements:
            task.cancel()
        if self._announcements:
            await asyncio.wait(self._announcements)
        self._sockets.close()

    async def ensure(self, wanted: Iterable[Address]) -> None:
        self._wanted = frozenset(wanted)
        self._told &= self._wanted
        refusals = self._reconcile(self._wanted) if self._manage else []
        self._tell(self._wanted)
        if refusals:
            raise _error(refusals)

    def present(self, address: Address) -> bool:
        return address in self._present

    def is_routed(self, address: Address) -> bool:
        return not self._manage and forwards(address.version)

    def notes(self) -> list[str]:
        return []

    # Following

    def look_soon(self) -> None:
        """Reconcile soon: an interface may have got the packet program."""
        if not self._look_handle:
            self._look_handle = self._loop.call_later(LOOKS_APART, self._look)

    def _look(self) -> None:
        self._look_handle = None
        try:
            held = self._read()
        except OSError as error:
            log.warning("the interfaces cannot be read, trying again: %s", error)
            self.look_soon()
            return
        self._announce_again(held)
        if self._wanted is None:
            return
        if self._manage:
            self._complain(self._reconcile(self._wanted))
        self._tell(self._wanted)

    def _tell(self, wanted: frozenset[Address]) -> None:
        before, self._told = self._told, self._present & wanted
        for address in sorted(before ^ self._told, key=_order):
            self._loop.call_soon(self._on_change, address)

    def _read(self) -> list[Held]:
        held = addresses(self._requests)
        self._all_links = {link.index: link for link in everything(self._requests)}
        self._links = {link.name: link for link in self._all_links.values() if link.name in self._names}
        self._present = frozenset(each.address for each in held)
        return held

    def _complain(self, refusals: Collection[_Refusal]) -> None:
        complaints = [str(refusal) for refusal in refusals]
        if complaints != self._complaints:
            self._complaints = complaints
            for complaint in complaints:
                log.warning("%s", complaint)

    # Changing

    def _reconcile(self, wanted: frozenset[Address]) -> list[_Refusal]:
        """Removes first: an address may move from one interface to another."""
        held = self._read()
        ours = {link.index for link in self._links.values()}
        for each in held:
            if each.index in ours and each.address not in wanted and self._is_ours(each):
                self._remove(each)
        refusals = []
        placed = []
        astray = self._astray(held, wanted)
        missing = sorted((wanted - self._present) | astray.keys(), key=_order)
        carrying = self._carrying() if missing and self._carrying else self._names
        for address in missing:
            try:
                placed.append((address, self._place(address, carrying)))
            except OSError as error:
                refusals.append(_Refusal(address, self._home(address), error))
            else:
                if address in astray:
                    self._remove(astray[address])
        self._read()
        if self._arp_ignore and any(address.version == 4 for address in wanted):
            self._flux.prevent(self._all_links.values(), self._names)
        else:
            self._flux.allow(self._all_links.values())
        self._announced |= {(link.index, address): link for address, link in placed if link.up}
        self._announce(placed)
        return refusals

    def _is_ours(self, held: Held) -> bool:
        return held.protocol == PROTOCOL or (held.index, held.address) in self._placed

    def _astray(self, held: Sequence[Held], wanted: frozenset[Address]) -> dict[Address, Held]:
        """Our addresses on another network than their own, because its interface was missing for a while."""
        found = {}
        for each in held:
            link, home = self._all_links.get(each.index), self._home(each.address)
            if each.address not in wanted or not self._is_ours(each) or link is None or home is None:
                continue
            if link.name in self._links and not _reaches(link, each.address) and _reaches(home, each.address):
                found[each.address] = each
        return found

    def _home(self, address: Address) -> Interface | None:
        """The first interface with a network that contains the address, else the first one."""
        links = [self._links[name] for name in self._names if name in self._links]
        return next((link for link in links if _reaches(link, address)), links[0] if links else None)

    def _place(self, address: Address, carrying: Collection[str]) -> Interface:
        link = self._home(address)
        if link is None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        if link.name not in carrying:
            raise OSError(
                errno.EAGAIN, "it does not carry the packet program, and the host would refuse clients"
            )
        with contextlib.suppress(FileExistsError):
            self._requests.change(RTM_NEWADDR, addition(address, link.index), NLM_F_CREATE | NLM_F_EXCL)
            self._placed.add((link.index, address))
            log.info("put %s on %s", address, link.name)
        return link

    def _remove(self, held: Held) -> None:
        self._placed.discard((held.index, held.address))
        try:
            self._requests.change(RTM_DELADDR, removal(held.address, held.index))
            log.info("removed %s from interface %d", held.address, held.index)
        except OSError as error:
            log.warning(
                "%s cannot be removed from interface %d: %s", held.address, held.index, error.strerror
            )

    # Announcing

    def _announce_again(self, held: Iterable[Held]) -> None:
        """Announce addresses of interfaces that got another MAC, a carrier or an address: VIPs, and the
        addresses that backends reply to."""
        before, self._announced = self._announced, self._to_announce(held)
        news = [
            (address, link)
            for (index, address), link in self._announced.items()
            if self._is_news(before.get((index, address)), link)
        ]
        self._announce(news)

    def _to_announce(self, held: Iterable[Held]) -> dict[tuple[int, Address], Interface]:
        """Every address that may be announced, with its interface."""
        return {
            (each.index, each.address): link
            for each in held
            if (link := self._all_links.get(each.index)) and link.up and link.mac and not each.tentative
        }

    def _is_news(self, before: Interface | None, link: Interface) -> bool:
        """On interfaces that are not managed, only changes of the MAC count: addresses come and go there."""
        return link.mac != before.mac if before else link.name in self._names

    def _announce(self, placed: Sequence[tuple[Address, Interface]]) -> None:
        frames = [(announcement(address, link.mac), link.name) for address, link in placed if link.mac]
        if frames:
            task = self._tasks.once("announcing addresses", partial(_send, self._wire, frames))
            self._announcements.add(task)
            task.add_done_callback(self._announcements.discard)


def withdraw(names: Collection[str], memory: Path | None = None) -> list[Address]:
    """Remove from these interfaces the VIPs that a daemon of any instance added, and return them; only while
    none runs. `memory`: see `Vips`; ARP settings of other interfaces are restored.

    Kernels before 5.18 do not record who added an address: nothing is removed then.
    """
    with Requests() as requests:
        present = everything(requests)
        ArpFlux(requests, memory).allow(present)
        links = {link.index for link in present if link.name in names}
        ours = [each for each in addresses(requests) if each.protocol == PROTOCOL and each.index in links]
        for each in ours:
            requests.change(RTM_DELADDR, removal(each.address, each.index))
    return [each.address for each in ours]


class _Refusal:
    """An address that the kernel did not accept."""

    def __init__(self, address: Address, link: Interface | None, error: OSError) -> None:
        self.error = error
        where = link.name if link else "any of the configured interfaces"
        self._sentence = f"the VIP {address} cannot be put on {where}: {error.strerror}"

    def __str__(self) -> str:
        return self._sentence


def _error(refusals: Sequence[_Refusal]) -> DataplaneError | NotAllowedError:
    detail = "; ".join(map(str, refusals))
    if any(refusal.error.errno == errno.EPERM for refusal in refusals):
        return NotAllowedError(f"{detail}. Give the daemon CAP_NET_ADMIN, or set `vips: external`")
    return DataplaneError(detail)


def _reaches(link: Interface, address: Address) -> bool:
    """True if the interface has another address in a network that contains this one."""
    return any(address in each.network for each in link.networks if each.ip != address)


async def _send(wire: socket.socket, frames: Sequence[tuple[bytes, str]]) -> None:
    for turn in range(TIMES):
        if turn:
            await asyncio.sleep(APART)
        for frame, interface in frames:
            try:
                wire.sendto(frame, (interface, 0))
            except OSError as error:  # down or removed: announced again when it comes up
                log.debug("an announcement on %s was not sent: %s", interface, error)


def _order(address: Address) -> tuple[int, bytes]:
    return address.version, address.packed


def forwards(version: int) -> bool:
    """True if the kernel forwards packets of this IP version."""
    try:
        return FORWARDING[version].read_text().strip() != "0"
    except OSError:  # a kernel without this family
        return False
