# SPDX-License-Identifier: Apache-2.0
"""Keeps interfaces without the packet program from answering ARP for VIPs (ARP flux).

Linux answers ARP for any address of the host on any interface. A second network card in the same LAN
therefore attracts clients to an interface without the program, and the host's kernel resets their
connections. While this host has VIPs, such interfaces get `arp_ignore` 1 (answer for own addresses only) and
`arp_announce` 2 (use own addresses only as sender), as on backends. Values set by an operator are left alone.
A file records the changes, so that they can be undone. IPv6 needs none of this: neighbour discovery answers
for the interface's own addresses only (RFC 4861, section 7.2.3).
"""

from __future__ import annotations

import contextlib
import json
import logging
import struct
from collections.abc import Collection, Iterable
from pathlib import Path
from socket import AF_INET

from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl import RTM_SETLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfbase

from xdpdirector.net.interfaces import Arp, Interface
from xdpdirector.net.netlink import Requests
from xdpdirector.net.own_macs import covered
from xdpdirector.system import untrusted_directory

QUIET = Arp(ignore=1, announce=2)
LINK_AF_SPEC, INET_CONF = 26, 1  # linux/if_link.h: IFLA_AF_SPEC, IFLA_INET_CONF
ARP_ANNOUNCE, ARP_IGNORE = 18, 19  # linux/ip.h: IPV4_DEVCONF_*
HERE = Path("/proc/thread-self/ns/net")
ATTRIBUTE = struct.Struct("=HH")

log = logging.getLogger(__name__)


class ArpFlux:
    """`memory`: the file with the original values; None keeps them in this process only."""

    def __init__(self, requests: Requests, memory: Path | None = None) -> None:
        self._requests, self._memory = requests, memory
        self._namespace = HERE.stat().st_ino
        self._before = self._read()
        self._complaints: set[str] = set()

    def prevent(self, links: Collection[Interface], carrying: Collection[str]) -> None:
        """Configure interfaces of which the program does not see all frames. Refusals by the kernel are logged
        once."""
        seen = {link.index for link in covered(links, carrying)}
        for link in links:
            if link.mac and link.index not in seen and not link.master:
                wanted = _quieter(link.arp)
                if wanted != link.arp and self._set(link, wanted):
                    self._before.setdefault(link.name, link.arp)
                    self._remember()
                    log.info(
                        "%s answers ARP for its own addresses only: it does not carry the packet program",
                        link.name,
                    )

    def allow(self, links: Iterable[Interface]) -> None:
        """Restore all original values, except values that another process changed since."""
        if not self._before:
            return
        for link in links:
            before = self._before.get(link.name)
            if before is not None and link.arp == _quieter(before):
                self._set(link, before)
        self._before.clear()
        self._remember()

    def _set(self, link: Interface, wanted: Arp) -> bool:
        try:
            self._requests.change(RTM_SETLINK, _request(link.index, wanted))
        except OSError as error:
            if link.name not in self._complaints:
                log.warning("arp_ignore of %s cannot be set: %s", link.name, error.strerror)
            self._complaints.add(link.name)
            return False
        return True

    def _read(self) -> dict[str, Arp]:
        """The recorded values of this network namespace: the instance may have run in another one before."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            if self._memory:
                document = json.loads(untrusted_directory.read(self._memory))
                if document["namespace"] == self._namespace:
                    return {str(name): Arp(*map(int, values)) for name, values in document["before"].items()}
        return {}

    def _remember(self) -> None:
        if self._memory is None:
            return
        document = {"namespace": self._namespace, "before": self._before}
        try:
            with untrusted_directory.directory(self._memory.parent) as place:
                if self._before:
                    untrusted_directory.write(place, self._memory.name, json.dumps(document).encode())
                else:
                    untrusted_directory.remove(place, self._memory.name)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._memory, error.strerror)


def _quieter(arp: Arp) -> Arp:
    return Arp(arp.ignore or QUIET.ignore, arp.announce or QUIET.announce)


class _Settings(ifinfbase, nlmsg):  # type: ignore[misc]  # pyroute2 has no types
    """A link with settings that pyroute2 can read but not write."""

    nla_map = ((LINK_AF_SPEC, "IFLA_AF_SPEC", "cdata"),)


def _request(index: int, arp: Arp) -> _Settings:
    values = _attribute(ARP_IGNORE, struct.pack("=I", arp.ignore)) + _attribute(
        ARP_ANNOUNCE, struct.pack("=I", arp.announce)
    )
    request = _Settings()
    request["index"] = index
    request["attrs"] = [("IFLA_AF_SPEC", _attribute(AF_INET, _attribute(INET_CONF, values)))]
    return request


def _attribute(kind: int, content: bytes) -> bytes:
    """struct nlattr. All contents here have a length that needs no padding."""
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(content), kind) + content
