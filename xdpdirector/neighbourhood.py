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

from pyroute2.netlink import NLM_F_CREATE
from pyroute2.netlink.rtnl import RTM_GETNEIGH, RTM_GETNEIGHTBL, RTM_GETROUTE, RTM_NEWNEIGH
from pyroute2.netlink.rtnl.ndmsg import NTF_USE, ndmsg
from pyroute2.netlink.rtnl.ndtmsg import ndtmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from xdpdirector import interfaces
from xdpdirector.interfaces import Interface
from xdpdirector.model import Address
from xdpdirector.netlink import Message, Requests
from xdpdirector.routes import STATIC, Hop, Neighbour

log = logging.getLogger(__name__)

NTF_EXT_MANAGED = 1 << 0
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

    def hop(self, address: Address) -> Hop | None:
        """As `ip route get` finds it; None without a route."""
        request = rtmsg()
        request["family"], request["dst_len"] = _family(address), address.max_prefixlen
        request["attrs"] = [("RTA_DST", str(address))]
        try:
            answer = self._requests.get(RTM_GETROUTE, request)
        except OSError:
            return None
        via = answer.get_attr("RTA_VIA")
        gateway = answer.get_attr("RTA_GATEWAY") or (via["addr"] if via else "")
        return Hop(answer["type"], answer.get_attr("RTA_OIF") or 0, gateway)

    def neighbour(self, address: Address, ifindex: int) -> Neighbour | None:
        """The entry, if there is one (RTM_GETNEIGH for one entry: Linux 5.0)."""
        try:
            return _neighbour(self._requests.get(RTM_GETNEIGH, _entry(address, ifindex)))
        except OSError:
            return None

    def ask(self, address: Address, ifindex: int) -> bool:
        """Resolve it now and keep it so. Never for a permanent entry: it would become an ordinary one. False when
        the kernel has no room for another neighbour."""
        request = _entry(address, ifindex)
        request["flags"] = NTF_USE
        request["attrs"] += [("NDA_FLAGS_EXT", NTF_EXT_MANAGED), ("NDA_PROTOCOL", PROTOCOL)]
        return self._change(request, NLM_F_CREATE)

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
            request = _entry(address, ifindex)
            request["flags"] = NTF_USE
            self._change(request, 0)

    def release_leftovers(self) -> None:
        """Of a process that was killed. Another director in this namespace asks for its own again at once."""
        for message in self._requests.dump(RTM_GETNEIGH, ndmsg()):
            if message.get_attr("NDA_PROTOCOL") == PROTOCOL and _neighbour(message).managed:
                self.release(ip_address(message.get_attr("NDA_DST")), message["ifindex"])

    def _change(self, request: Message, flags: int) -> bool:
        """Whether there was room. Else an interface went away or down: events will say so."""
        try:
            self._requests.change(RTM_NEWNEIGH, request, flags)
        except OSError as error:
            log.debug("neighbour %s: %s", request["attrs"][0][1], error)
            return error.errno != errno.ENOBUFS
        return True


def _family(address: Address) -> int:
    return AF_INET if address.version == 4 else AF_INET6


def _entry(address: Address, ifindex: int) -> Message:
    request = ndmsg()
    request["family"], request["ifindex"] = _family(address), ifindex
    request["attrs"] = [("NDA_DST", str(address))]
    return request


def _neighbour(message: Message) -> Neighbour:
    return Neighbour(
        state=message["state"],
        mac=interfaces.mac_bytes(message.get_attr("NDA_LLADDR")),
        managed=bool((message.get_attr("NDA_FLAGS_EXT") or 0) & NTF_EXT_MANAGED),
    )
