# SPDX-License-Identifier: Apache-2.0
"""VIPs on an interface of their own, as long as the director is ready: a routing daemon, such as BIRD by its
protocol `direct`, announces what stands there, and withdraws it with the address.

The addresses are valid for some seconds only, which is extended again and again. So after a daemon that has died,
and that nobody starts again, the kernel removes them, and routers send nothing more here; one that is restarted
finds them still there. The interface stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE
from pyroute2.netlink.rtnl import RTM_DELADDR, RTM_NEWADDR, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from xdpdirector.errors import DataplaneError, NotAllowedError
from xdpdirector.model import Address
from xdpdirector.net.address_messages import PROTOCOL, addition, removal
from xdpdirector.net.arp_flux import ArpFlux
from xdpdirector.net.interfaces import IFF_UP, Held, Interface, addresses, everything
from xdpdirector.net.netlink import Events, Message, Requests
from xdpdirector.net.vips import GROUPS
from xdpdirector.system.background_tasks import BackgroundTasks

VALID = 15  # seconds for which an address stands without the daemon
EXTENDED_APART = 3.0  # seconds
LOOKS_APART = 0.5  # seconds between two looks at whether the director is ready
LOOKS = 2  # of one kind in a row, before addresses come or go

log = logging.getLogger(__name__)


class DummyVips:
    """A `VipTable`. `is_ready`: whether the director is, looked at twice a second. `kind`: of the interface that is
    made when there is none. `on_change`, `arp_ignore`, `memory`: as of `Vips`; no interface answers ARP for these
    VIPs.

    What stands there from a daemon before stays until this one has been ready once, or it is no longer valid.
    """

    def __init__(
        self,
        interface: str,
        kind: str = "dummy",
        *,
        is_ready: Callable[[], bool],
        on_change: Callable[[Address], None] = lambda address: None,
        arp_ignore: bool = False,
        memory: Path | None = None,
        tasks: BackgroundTasks | None = None,
    ) -> None:
        self._name, self._kind, self._is_ready = interface, kind, is_ready
        self._on_change, self._tasks = on_change, tasks or BackgroundTasks()
        self._arp_ignore, self._memory = arp_ignore, memory
        self._wanted: frozenset[Address] = frozenset()
        self._present: frozenset[Address] = frozenset()
        self._told: frozenset[Address] = frozenset()
        self._placed: set[tuple[int, Address]] = set()
        self._refused: dict[Address, str] = {}
        self._standing: bool | None = None
        """Whether they shall; None until the director has been ready once."""
        self._seen, self._looks = False, 0
        self._must_read = True
        self._extended = 0.0
        self._link: Interface | None = None
        self._held: list[Held] = []
        self._task: asyncio.Task[None] | None = None
        self._sockets = contextlib.ExitStack()

    async def start(self) -> None:
        with contextlib.ExitStack() as stack:
            self._requests = stack.enter_context(Requests())
            self._flux = ArpFlux(self._requests, self._memory)
            events = Events(GROUPS, lambda *_: self.look_soon(), self.look_soon)
            stack.callback(events.close)
            self._read()
            self._sockets = stack.pop_all()
        self._task = self._tasks.start("the VIPs of a director that is ready", self._follow)

    async def close(self) -> None:
        """The addresses stay as long as they are valid."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._sockets.close()

    async def ensure(self, wanted: Iterable[Address]) -> None:
        self._wanted = frozenset(wanted)
        self._told &= self._wanted
        self._refused = {vip: text for vip, text in self._refused.items() if vip in self._wanted}
        try:
            self._require_interface()
        except OSError as error:
            raise _error(self._name, self._kind, error) from error
        self._apply()

    def present(self, address: Address) -> bool:
        return address in self._present

    def is_routed(self, address: Address) -> bool:
        return False

    def look_soon(self) -> None:
        """Read addresses and interfaces again at the next look."""
        self._must_read = True

    def notes(self) -> list[str]:
        return [self._refused[vip] for vip in sorted(self._refused, key=str)]

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOKS_APART)
            ready = self._is_ready()
            self._looks = self._looks + 1 if ready == self._seen else 1
            self._seen = ready
            if self._looks >= LOOKS and (ready or self._standing is not None):
                if ready != self._standing:
                    log.info("VIPs are %s %s", "put on" if ready else "taken off", self._name)
                self._standing = ready
            try:
                self._apply()
            except OSError as error:
                log.warning("the VIPs on %s cannot be looked after, trying again: %s", self._name, error)

    def _apply(self) -> None:
        """Addresses as they should be. OSError when the kernel cannot be asked."""
        if self._must_read:
            self._read()
        link = self._link
        if link is not None:
            self._take_off(link)
            if self._standing:
                self._put_on(link)
        if self._must_read:
            self._read()
        self._tell()

    def _take_off(self, link: Interface) -> None:
        for each in self._held:
            is_ours = each.protocol == PROTOCOL or (each.index, each.address) in self._placed
            if each.index == link.index and is_ours and self._is_leaving(each.address):
                with contextlib.suppress(OSError):  # it has gone meanwhile
                    self._requests.change(RTM_DELADDR, removal(each.address, each.index))
                self._placed.discard((each.index, each.address))
                self._must_read = True

    def _is_leaving(self, address: Address) -> bool:
        return self._standing is False or address not in self._wanted

    def _put_on(self, link: Interface) -> None:
        """Those that are missing, and all of ours now and then, to extend their validity."""
        due = time.monotonic() - self._extended >= EXTENDED_APART
        foreign = {
            each.address
            for each in self._held
            if each.protocol != PROTOCOL and (each.index, each.address) not in self._placed
        }
        for address in sorted(self._wanted - foreign, key=str):
            if due or address not in self._present:
                self._place(address, link)
        if due:
            self._extended = time.monotonic()

    def _place(self, address: Address, link: Interface) -> None:
        try:
            self._requests.change(
                RTM_NEWADDR, addition(address, link.index, VALID), NLM_F_CREATE | NLM_F_REPLACE
            )
        except OSError as error:
            text = f"the VIP {address} cannot be put on {self._name}: {error.strerror}"
            if self._refused.get(address) != text:
                log.warning("%s", text)
            self._refused[address] = text
        else:
            self._refused.pop(address, None)
            self._placed.add((link.index, address))
            self._must_read = self._must_read or address not in self._present

    def _require_interface(self) -> None:
        """OSError when there is none, and none can be made."""
        self._read()
        if self._link is None:
            self._requests.change(RTM_NEWLINK, _new_link(self._name, self._kind), NLM_F_CREATE | NLM_F_EXCL)
            log.info("the %s interface %s is made for the VIPs", self._kind, self._name)
            self._read()
        elif not self._link.up:
            self._requests.change(RTM_NEWLINK, _up(self._link.index))

    def _read(self) -> None:
        self._must_read = False
        self._held = addresses(self._requests)
        links = everything(self._requests)
        self._link = next((each for each in links if each.name == self._name), None)
        self._present = frozenset(each.address for each in self._held)
        if self._arp_ignore and any(address.version == 4 for address in self._wanted):
            self._flux.prevent(links, ())
        else:
            self._flux.allow(links)

    def _tell(self) -> None:
        before, self._told = self._told, self._present & self._wanted
        for address in sorted(before ^ self._told, key=str):
            self._on_change(address)


def _new_link(name: str, kind: str) -> Message:
    request = _up(0)
    request["attrs"] = [("IFLA_IFNAME", name), ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind)]})]
    return request


def _up(index: int) -> Message:
    request = ifinfmsg()
    request["index"], request["flags"], request["change"] = index, IFF_UP, IFF_UP
    return request


def _error(name: str, kind: str, error: OSError) -> DataplaneError | NotAllowedError:
    if error.errno == errno.EPERM:
        return NotAllowedError(f"the interface {name} cannot be made: give the daemon CAP_NET_ADMIN")
    if error.errno == errno.EOPNOTSUPP:
        return DataplaneError(
            f"the interface {name} cannot be made: this kernel has no {kind} interfaces (modprobe {kind}). Make "
            f"one of another kind that is called {name} and carries nothing else"
        )
    why = error.strerror or os.strerror(error.errno or 0)
    return DataplaneError(f"the interface {name} for the VIPs cannot be made or used: {why}")
