# SPDX-License-Identifier: Apache-2.0
"""Reads single entries of the kernel's link, route and neighbour tables, and has neighbours kept resolved.

The kernel keeps a neighbour resolved with NTF_EXT_MANAGED (Linux 5.16). An older kernel ignores that flag,
treats the request as one use of the entry (NTF_USE), and has to be asked repeatedly. Decides nothing.
"""

from __future__ import annotations

import errno
import logging
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import NamedTuple

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE
from pyroute2.netlink.rtnl import RTM_GETNEIGH, RTM_GETNEIGHTBL, RTM_GETROUTE, RTM_NEWNEIGH
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.ndtmsg import ndtmsg

from xdpdirector.model import Address
from xdpdirector.net import interfaces
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.netlink import Requests
from xdpdirector.net.next_hop import STATIC, Hop, Neighbour
from xdpdirector.net.rtnetlink_messages import (
    NTF_EXT_MANAGED,
    hop_of,
    neighbour_of,
    neighbour_request,
    route_request,
    use_request,
)

log = logging.getLogger(__name__)

PROTOCOL = 0xD1  # NDA_PROTOCOL of entries that we made managed; identifies them after a restart


class Room(NamedTuple):
    """Fill of the kernel's neighbour table of one family, shared by all network namespaces. `most`:
    `gc_thresh3`."""

    entries: int
    most: int


def rooms(requests: Requests) -> dict[int, Room]:
    """By IP version. Works inside a network namespace, too, which has no such sysctl. OSError."""
    found = {}
    for message in requests.dump(RTM_GETNEIGHTBL, ndtmsg()):
        most, about = message.get_attr("NDTA_THRESH3"), message.get_attr("NDTA_CONFIG")
        version = {AF_INET: 4, AF_INET6: 6}.get(message["family"])
        if version and most and about:  # other messages describe single interfaces
            found[version] = Room(about["entries"], most)
    return found


class Neighbourhood:
    """Requests over one socket, in its network namespace."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def links(self) -> dict[int, Interface]:
        """All interfaces by index."""
        return {interface.index: interface for interface in interfaces.everything(self._requests)}

    def link(self, index: int) -> Interface | None:
        """An interface without its addresses; None if there is none."""
        return interfaces.one(self._requests, index)

    def hop(self, address: Address) -> Hop | None:
        """The result of `ip route get`; None without a route."""
        try:
            return hop_of(self._requests.exchange(RTM_GETROUTE, route_request(address)))
        except OSError:
            return None

    def neighbour(self, address: Address, ifindex: int) -> Neighbour | None:
        """The entry, None if there is none (RTM_GETNEIGH for one entry: Linux 5.0)."""
        try:
            return neighbour_of(self._requests.exchange(RTM_GETNEIGH, neighbour_request(address, ifindex)))
        except OSError:
            return None

    def ask(self, address: Address, ifindex: int) -> bool:
        """Resolve the neighbour now and keep it resolved. Not for a permanent entry: it would become an
        ordinary one. False if the kernel's neighbour table is full."""
        return self._use(address, ifindex, NLM_F_CREATE, PROTOCOL)

    def room(self, version: int) -> Room | None:
        """Fill of the neighbour table of that IP version; None if unknown."""
        try:
            return rooms(self._requests).get(version)
        except OSError:
            return None

    def release(self, address: Address, ifindex: int) -> None:
        """Make the entry an ordinary one again, which ages."""
        neighbour = self.neighbour(address, ifindex)
        if neighbour and neighbour.managed and not neighbour.state & STATIC:
            self._use(address, ifindex, 0)

    def release_leftovers(self) -> None:
        """Release entries of a process that was killed. Another director in this namespace requests its own
        again at once."""
        for message in self._requests.dump(RTM_GETNEIGH, ndmsg()):
            is_managed = (message.get_attr("NDA_FLAGS_EXT") or 0) & NTF_EXT_MANAGED
            if message.get_attr("NDA_PROTOCOL") == PROTOCOL and is_managed:
                self.release(ip_address(message.get_attr("NDA_DST")), message["ifindex"])

    def _use(self, address: Address, ifindex: int, flags: int, protocol: int | None = None) -> bool:
        """False if the neighbour table is full. Other errors mean that an interface was removed or went down:
        events will report it."""
        try:
            body = use_request(address, ifindex, protocol)
            self._requests.exchange(RTM_NEWNEIGH, body, NLM_F_ACK | flags)
        except OSError as error:
            log.debug("neighbour %s: %s", address, error)
            return error.errno != errno.ENOBUFS
        return True
