# SPDX-License-Identifier: Apache-2.0
"""The checks' network namespace with everything in it: veth pairs to the director's interfaces, and a path to each
backend whose VIPs are probed. `vip_network` says what for.

Knows no configuration, and not which requests the kernel has refused before.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Awaitable, Callable, Collection
from math import inf
from typing import Protocol

from xdpdirector.health import veth
from xdpdirector.health.checks import Target
from xdpdirector.health.mark_routes import MARKS, Path, Paths
from xdpdirector.health.probe_tunnels import ProbeTunnels, Through
from xdpdirector.health.veth import FIRST_PORT, LAST_PORT, CheckVeth
from xdpdirector.model import Address
from xdpdirector.model.tunnel import Encapsulation, overhead
from xdpdirector.net import interfaces
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.netlink import Requests
from xdpdirector.net.netns import Namespace
from xdpdirector.net.next_hop import Route
from xdpdirector.net.tunnel import tunnel_over

LOOKS_APART = 5.0  # seconds between two checks whether an interface changed without an event
WHOLE_FOR = 0.1  # seconds for which a check of a veth pair stays valid, however many probes of one VIP fail
SETTINGS = {
    "ipv4/ip_local_port_range": f"{FIRST_PORT} {LAST_PORT}",
    "ipv4/tcp_tw_reuse": "1",  # there are 4,096 ports, and a VIP is one peer however many backends it has
    "ipv4/ping_group_range": "0 2147483647",
}

log = logging.getLogger(__name__)


class Inside(Protocol):
    """An open network namespace. Implemented by `OwnNamespace` and `GivenNamespace`."""

    @property
    def fd(self) -> int: ...

    @property
    def lost(self) -> bool:
        """True if it can no longer be used; another one can be requested."""

    async def make(self, family: int, kind: int, protocol: int = 0, /) -> socket.socket:
        """A socket in the namespace. OSError."""

    def note(self) -> str:
        """A recent event of the process that makes the sockets; empty if none."""

    def close(self) -> None: ...


Enter = Callable[[], Awaitable[Inside]]


class OwnNamespace:
    """A new namespace, which ends with this process. Takes CAP_SYS_ADMIN."""

    lost = False

    def __init__(self) -> None:
        self._namespace = Namespace("checks", SETTINGS)
        self.fd = self._namespace.fd

    async def make(self, family: int, kind: int, protocol: int = 0, /) -> socket.socket:
        return self._namespace.make(family, kind, protocol)

    def note(self) -> str:
        return ""

    def close(self) -> None:
        self._namespace.close()


async def own_namespace() -> Inside:
    return await asyncio.to_thread(OwnNamespace)


End = tuple[Address, Encapsulation | None]
"""Of a path: a backend, and how packets reach it."""


class CheckNamespace:
    """The namespace with everything in it. OSError if it cannot be made."""

    def __init__(
        self,
        instance: str,
        namespace: Inside,
        inside: socket.socket,
        control: socket.socket,
        clock: Callable[[], float],
        tunnels: ProbeTunnels | None,
    ) -> None:
        """`inside`: a netlink socket in the namespace, `control`: one for ioctl. All are closed with this, and also
        if this fails."""
        self._instance, self.namespace, self._clock = instance, namespace, clock
        self._control, self._tunnels = control, tunnels
        self._legs: dict[int, CheckVeth] = {}
        self._to: dict[End, Path] = {}
        self._through: dict[End, Through] = {}
        self._asked: set[Target] = set()
        self._looked = clock()
        self._whole_at: dict[tuple[int, Address], float] = {}
        with contextlib.ExitStack() as stack:
            stack.callback(namespace.close)
            stack.enter_context(control)
            self._inside = stack.enter_context(Requests(lambda *_: inside))
            self._outside = stack.enter_context(Requests())
            veth.clear(self._outside, instance)
            self._paths = Paths(self._inside)
            self._stack = stack.pop_all()

    @classmethod
    async def made(
        cls, instance: str, enter: Enter, clock: Callable[[], float], tunnels: ProbeTunnels | None
    ) -> CheckNamespace:
        namespace = await enter()
        with contextlib.ExitStack() as undo:
            undo.callback(namespace.close)
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            inside = undo.enter_context(await namespace.make(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE))
            control = await namespace.make(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            undo.pop_all()
        return cls(instance, namespace, inside, control, clock, tunnels)

    def mark(self, target: Target) -> int | None:
        """The socket mark for the target; None if it was not prepared."""
        path = self._to.get(_end(target))
        return path.mark if path and target.address in path.vips else None

    def lead(self, target: Target, way: Route) -> None:
        """Set up what is missing for this target."""
        assert way.mac
        self._look()
        self._asked.add(target)
        end, through = _end(target), self._tunnel(target, way)
        path = self._to.get(end)
        if path and (path.device != self._device(way.ifindex) or path.mtu != _inner_mtu(through)):
            self._close(end)
            path = None
        if path:
            self._follow(end, path, way, through)
        if path and target.address in path.vips:
            return
        leg = self._legs.get(way.ifindex) or self._make_leg(way.ifindex)
        source = leg.sources.get(target.address.version)
        if source is None or (through and source.is_link_local):
            raise OSError(
                errno.EADDRNOTAVAIL, f"{leg.link.name} has no IPv{target.address.version} address but VIPs"
            )
        leg.steer(target.address)
        if path is None:
            path = self._to[end] = self._open(end, leg, way, through)
        self._paths.lead(path, target.address, source)

    def _tunnel(self, target: Target, way: Route) -> Through | None:
        """The tunnel of the target, None for direct routing."""
        if target.encapsulation is None:
            return None
        tunnel = tunnel_over(way, target.encapsulation, target.backend)
        if self._tunnels is None or tunnel is None or not way.mac or not way.source_mac:
            raise OSError(errno.EOPNOTSUPP, "checks do not go through tunnels here")
        return Through(tunnel, way.mac, way.source_mac)

    def _open(self, end: End, leg: CheckVeth, way: Route, through: Through | None) -> Path:
        """A path without VIPs."""
        assert way.mac
        mark = self._free_mark()
        if through is None or self._tunnels is None:
            return Path(mark, leg.device, way.mac)
        leg.encapsulate(self._tunnels, self._control)
        self._tunnels.set(mark, *through)
        self._through[end] = through
        return Path(mark, leg.device, self._tunnels.mac(mark), _inner_mtu(through))

    def _follow(self, end: End, path: Path, way: Route, through: Through | None) -> None:
        """Changed addresses of the next hop, or of the tunnel."""
        if through and self._tunnels:
            if through != self._through.get(end):
                self._tunnels.set(path.mark, *through)
                self._through[end] = through
        elif way.mac and path.mac != way.mac:
            self._paths.move(path, way.mac)

    def forget(self, target: Target) -> None:
        """Remove what only this target uses."""
        self._asked.discard(target)
        path = self._to.get(_end(target))
        still = {each.address for each in self._asked if _end(each) == _end(target)}
        if path and not still & path.vips:
            self._close(_end(target))
        elif path and target.address in path.vips - still:
            with contextlib.suppress(OSError):
                self._paths.leave(path, target.address)
        if not any(each.address == target.address for each in self._asked):
            for leg in self._legs.values():
                leg.release(target.address)

    def close(self) -> None:
        """Remove everything."""
        for leg in self._legs.values():
            leg.close()
        self._stack.close()

    def _device(self, ifindex: int) -> int | None:
        return self._legs[ifindex].device if ifindex in self._legs else None

    def _free_mark(self) -> int:
        used = {path.mark for path in self._to.values()}
        return next(mark for mark in MARKS if mark not in used)

    def _make_leg(self, ifindex: int) -> CheckVeth:
        link = self._links().get(ifindex)
        if link is None:
            raise OSError(errno.ENODEV, "the interface is gone")
        vips = {each.address for each in self._asked}
        leg = CheckVeth(
            self._outside, self._inside, self.namespace.fd, link, self._instance, vips, self._clock()
        )
        self._legs[ifindex] = leg
        self._paths.come_back(leg.device)
        return leg

    def _look(self) -> None:
        if self._clock() - self._looked >= LOOKS_APART:
            self.see(self._links().values())

    def see(self, links: Collection[Interface]) -> None:
        """Replace the veth pair of an interface with changed addresses or MAC, when it is needed next."""
        self._looked = self._clock()
        present, vips = {link.index: link for link in links}, {each.address for each in self._asked}
        for ifindex, leg in list(self._legs.items()):
            if not leg.is_of(present.get(ifindex), vips):
                self._give_up(ifindex)

    def fault(self, target: Target, since: float) -> str:
        """See `Ways.fault`. A damaged veth pair is dropped, and made again for the next check."""
        path = self._to.get(_end(target))
        ifindex = next(
            (index for index, leg in self._legs.items() if path and leg.device == path.device), None
        )
        if ifindex is None or self._legs[ifindex].made > since:
            return "the way by which this director asks VIPs was made anew meanwhile"
        name, key, now = self._legs[ifindex].link.name, (ifindex, target.address), self._clock()
        if now - self._whole_at.get(key, -inf) < WHOLE_FOR:
            return ""
        if self._legs[ifindex].is_whole(target.address):
            self._whole_at[key] = now
            return ""
        self._give_up(ifindex)
        log.warning(
            "the health checks' tc filters or veth pair on %s were removed or changed: making them again",
            name,
        )
        return f"the checks' tc filters for a VIP's replies on {name} are gone, or their veth pair is down"

    def _give_up(self, ifindex: int) -> None:
        leg = self._legs.pop(ifindex)
        self._whole_at = {key: at for key, at in self._whole_at.items() if key[0] != ifindex}
        for end in [one for one, path in self._to.items() if path.device == leg.device]:
            self._close(end)
        leg.close()

    def _links(self) -> dict[int, Interface]:
        return {link.index: link for link in interfaces.everything(self._outside)}

    def _close(self, end: End) -> None:
        path = self._to.pop(end)
        if self._through.pop(end, None) and self._tunnels:
            self._tunnels.forget(path.mark)
        with contextlib.suppress(OSError):
            self._paths.close(path)


def _end(target: Target) -> End:
    return target.backend, target.encapsulation


def _inner_mtu(through: Through | None) -> int:
    """The longest packet that the tunnel takes; 0 for direct routing."""
    if through is None:
        return 0
    return through.tunnel.mtu - overhead(through.tunnel.kind, through.tunnel.destination.version)
