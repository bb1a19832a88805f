# SPDX-License-Identifier: Apache-2.0
"""The kernel's tables of links, routes and neighbours: read one entry, have a neighbour kept resolved.

The kernel itself keeps a neighbour resolved (NTF_EXT_MANAGED, Linux 5.16); an older one ignores that flag,
takes the request as one use of the entry (NTF_USE), and has to be asked again. No conclusions are drawn here.
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

PROTOCOL = 0xD1  # NDA_PROTOCOL of the entries that we made managed, so that a restart finds them


class Room(NamedTuple):
    """Of the kernel's neighbour table of one family, which all network namespaces share: entries, `gc_thresh3`."""

    entries: int
    most: int


def rooms(requests: Requests) -> dict[int, Room]:
    """By IP version. Also inside a network namespace, where there is no such sysctl. OSError."""
    found = {}
    for message in requests.dump(RTM_GETNEIGHTBL, ndtmsg()):
        most, about = message.get_attr("NDTA_THRESH3"), message.get_attr("NDTA_CONFIG")
        version = {AF_INET: 4, AF_INET6: 6}.get(message["family"])
        if version and most and about:  # the other messages are about single interfaces
            found[version] = Room(about["entries"], most)
    return found


class Neighbourhood:
    """Over one socket, in its network namespace."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def links(self) -> dict[int, Interface]:
        """All interfaces by index."""
        return {interface.index: interface for interface in interfaces.everything(self._requests)}

    def link(self, index: int) -> Interface | None:
        """One of them, without its addresses; None when there is none."""
        return interfaces.one(self._requests, index)

    def hop(self, address: Address) -> Hop | None:
        """As `ip route get` finds it; None without a route."""
        try:
            return hop_of(self._requests.exchange(RTM_GETROUTE, route_request(address)))
        except OSError:
            return None

    def neighbour(self, address: Address, ifindex: int) -> Neighbour | None:
        """The entry, if there is one (RTM_GETNEIGH for one entry: Linux 5.0)."""
        try:
            return neighbour_of(self._requests.exchange(RTM_GETNEIGH, neighbour_request(address, ifindex)))
        except OSError:
            return None

    def ask(self, address: Address, ifindex: int) -> bool:
        """Resolve it now and keep it so. Never for a permanent entry: it would become an ordinary one. False when
        the kernel has no room for another neighbour."""
        return self._use(address, ifindex, NLM_F_CREATE, PROTOCOL)

    def room(self, version: int) -> Room | None:
        """Of the table of that IP version; None when nobody says."""
        try:
            return rooms(self._requests).get(version)
        except OSError:
            return None

    def release(self, address: Address, ifindex: int) -> None:
        """Make the entry an ordinary one again that ages."""
        neighbour = self.neighbour(address, ifindex)
        if neighbour and neighbour.managed and not neighbour.state & STATIC:
            self._use(address, ifindex, 0)

    def release_leftovers(self) -> None:
        """Of a process that was killed. Another director in this namespace asks for its own again at once."""
        for message in self._requests.dump(RTM_GETNEIGH, ndmsg()):
            is_managed = (message.get_attr("NDA_FLAGS_EXT") or 0) & NTF_EXT_MANAGED
            if message.get_attr("NDA_PROTOCOL") == PROTOCOL and is_managed:
                self.release(ip_address(message.get_attr("NDA_DST")), message["ifindex"])

    def _use(self, address: Address, ifindex: int, flags: int, protocol: int | None = None) -> bool:
        """Whether there was room. Else an interface went away or down: events will say so."""
        try:
            body = use_request(address, ifindex, protocol)
            self._requests.exchange(RTM_NEWNEIGH, body, NLM_F_ACK | flags)
        except OSError as error:
            log.debug("neighbour %s: %s", address, error)
            return error.errno != errno.ENOBUFS
        return True
