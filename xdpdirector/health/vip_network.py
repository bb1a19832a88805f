# SPDX-License-Identifier: Apache-2.0
"""Network paths of checks to a VIP on a given backend, without configuration or an address of their own.

The director has the VIP itself, so in its own namespace a probe would reach the director. Probes use sockets of
another network namespace. There each backend has a gateway of its own, which the socket's mark selects
(`mark_routes`). Frames leave by the director's interface with its MAC and address, as for checks `via: address`, so
that a server's firewall sees no difference.

    checks' namespace      director
    socket, mark N -> veth == veth -> eth0 -> backend N
                      veth == veth <- eth0 <- backend N, from the VIP, to a port of the checks

Replies would reach the director's own IP stack, which drops packets from its own VIP: a tc filter at the
interface's ingress redirects them (`veth`). It matches nothing else: the source is a VIP, and the port is outside
of Linux's ephemeral ports.

Alternatives not taken: a macvlan in the namespace needs an address of its own in each LAN, and a MAC that clouds
do not accept; in the director's own namespace, rules before the table `local` change the machine's routing, and
work for IPv4 only. Where the kernel refuses, checks probe the backend's own address, and `notes` says so.

To a backend in another network a probe goes through the same tunnel as clients' packets: see `probe_tunnels`.

The namespace has no name: it ends with the process, and the veth pairs with it. Making it needs CAP_SYS_ADMIN,
which only root has (`socket_helper`); everything else needs CAP_NET_ADMIN. Clients' packets pass none of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import time
from collections.abc import Callable, Collection
from itertools import cycle

from xdpdirector.health import veth
from xdpdirector.health.check_namespace import CheckNamespace, Enter, own_namespace
from xdpdirector.health.checks import CheckImpossible, NoWay, Target, direct
from xdpdirector.health.checks.dialer import RouteOf
from xdpdirector.health.probe_tunnels import ProbeTunnels
from xdpdirector.health.veth import FIRST_PORT, LAST_PORT
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.netlink import Requests

SO_MARK = 36
RETRY = 30.0  # seconds until something that the kernel refused is tried again
_SETTINGS6 = {
    "ipv6/conf/default/addr_gen_mode": "1",  # no link-local address, so that only probes are sent
}
_ICMP = (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6)

log = logging.getLogger(__name__)


class CheckNetwork:
    """Network paths of checks. Everything is made when the first VIP is checked."""

    def __init__(
        self,
        instance: str,
        *,
        enter: Enter = own_namespace,
        clock: Callable[[], float] = time.monotonic,
        tunnels: ProbeTunnels | None = None,
    ) -> None:
        """`enter`: returns the checks' namespace; OSError if it cannot be made. `tunnels`: encapsulates probes of
        backends behind tunnels, which are asked at their own addresses otherwise."""
        self._instance, self._enter, self._clock, self._tunnels = instance, enter, clock, tunnels
        self._inner: CheckNamespace | None = None
        self._making = asyncio.Lock()
        self._had_one = False
        self._refused: dict[str, tuple[str, float]] = {}
        self._links: list[Interface] = []
        self._identifiers = cycle(range(FIRST_PORT, LAST_PORT + 1))

    async def prepare(self, target: Target, route: RouteOf) -> Target:
        """See `Ways.prepare`."""
        if not target.is_vip:
            return target
        way = route(target.backend, target.is_routed)
        if way.kind == "local":
            return target
        if way.kind != "neighbour":
            raise NoWay(way.why)
        subject = f"{way.interface}, IPv{target.address.version}"
        if target.encapsulation:
            subject += f", {target.encapsulation.kind}"
        if self._is_refused(subject):
            return target.direct()
        inner = await self._enter_inner(subject)
        if inner is None:
            return target.direct()
        try:
            inner.lead(target, way)
        except OSError as error:
            self._refuse(subject, error)
            return target.direct()
        self._refused.pop(subject, None)
        return target

    async def dial(self, target: Target, kind: int, protocol: int = 0, /) -> socket.socket:
        """See `Dial`."""
        mark = self._inner.mark(target) if self._inner else None
        if self._inner is None or mark is None:
            if self._had_one and target.is_vip:
                raise OSError(errno.ECONNRESET, "the checks' network is gone")
            return await direct(target, kind, protocol)
        opened = await direct(target, kind, protocol, self._inner.namespace.make)
        try:
            opened.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
            if protocol in _ICMP and kind == socket.SOCK_DGRAM:
                self._identify(opened)
        except BaseException:
            opened.close()
            raise
        return opened

    def see(self, links: Collection[Interface]) -> None:
        """Update with the director's present interfaces: veth pairs follow them, and refused requests are
        tried again."""
        before, self._links = self._links, list(links)
        if self._links == before:
            return
        self._refused = {subject: (why, 0.0) for subject, (why, _) in self._refused.items()}
        if self._inner:
            self._inner.see(self._links)

    def fault(self, target: Target, since: float) -> str:
        """See `Ways.fault`."""
        return self._inner.fault(target, since) if self._inner and target.is_vip else ""

    def forget(self, target: Target) -> None:
        """See `Ways.forget`."""
        if self._inner:
            self._inner.forget(target)

    def notes(self) -> list[str]:
        """See `Ways.notes`."""
        unseen = "ask the backends' own addresses, and do not see whether a server has its VIP"
        happened = self._inner.namespace.note() if self._inner else ""
        refused = [
            f"checks by {subject} {unseen}: {why}" for subject, (why, _) in sorted(self._refused.items())
        ]
        return [*filter(None, [happened]), *refused]

    async def close(self) -> None:
        """Remove everything."""
        if self._inner:
            self._inner.close()
            self._inner = None

    async def _enter_inner(self, subject: str) -> CheckNamespace | None:
        """None if there never was a namespace and none can be made. A lost helper is no reason to probe
        backends differently than before: CheckImpossible."""
        async with self._making:
            if self._is_refused(subject):  # while this one waited
                return None
            if self._inner and self._inner.namespace.lost:
                self._inner.close()
                self._inner = None
            try:
                self._inner = self._inner or await CheckNamespace.made(
                    self._instance, self._enter, self._clock, self._tunnels
                )
            except OSError as error:
                if self._had_one:
                    raise CheckImpossible(f"{error.strerror or error}: the VIPs cannot be probed") from error
                self._refuse(subject, error)
                return None
            self._had_one = True
            return self._inner

    def _is_refused(self, subject: str) -> bool:
        """True until it is time to try again."""
        return subject in self._refused and self._clock() < self._refused[subject][1]

    def _refuse(self, subject: str, error: OSError) -> None:
        why = error.strerror or str(error)
        if error.errno == errno.EPERM:
            why += "; let root start the daemon: it makes the checks' namespace before it becomes its `user`"
        if self._refused.get(subject, ("", 0.0))[0] != why:
            log.warning("health checks over %s cannot probe VIPs: %s", subject, why)
        self._refused[subject] = why, self._clock() + RETRY

    def _identify(self, opened: socket.socket) -> None:
        """Set a ping's identifier from the checks' range."""
        for _ in range(FIRST_PORT, LAST_PORT + 1):
            with contextlib.suppress(OSError):
                opened.bind(("", next(self._identifiers)))
                return
        raise OSError(errno.EADDRINUSE, "all identifiers are in use")


def clear(instance: str) -> None:
    """Remove what a killed daemon of this instance left on the interfaces."""
    with Requests() as requests:
        veth.clear(requests, instance)
