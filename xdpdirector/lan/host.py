# SPDX-License-Identifier: Apache-2.0
"""Reads over netlink this host's interfaces, neighbours and gateways. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import Protocol

from pyroute2.netlink.rtnl import RTM_GETNEIGH
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from xdpdirector.model import Address
from xdpdirector.net import interfaces, own_source_drops
from xdpdirector.net.interfaces import Interface, mac_bytes
from xdpdirector.net.neighbour_requests import Neighbourhood
from xdpdirector.net.netlink import Requests

FAR = (
    ip_address("198.18.0.1"),
    ip_address("2001:2::1"),
)  # unassigned (RFC 2544, RFC 5180): these use the default route


class HostNetwork(Protocol):
    """Implemented by `Kernel`. OSError if the kernel does not answer."""

    def open(self) -> None: ...

    def close(self) -> None: ...

    def links(self) -> list[Interface]:
        """All interfaces of this host with their addresses."""

    def known_as(self, mac: bytes) -> list[Address]:
        """The addresses in the neighbour table with this MAC."""

    def dropping(self, interfaces: Collection[str]) -> Mapping[str, str]:
        """See `own_source_drops.dropping`."""

    def gateways(self) -> Mapping[Address, bytes | None]:
        """Gateways of this host, with their MACs if known."""


class Kernel:
    """Over one socket, in the network namespace of the thread that opens it."""

    def open(self) -> None:
        self._requests = Requests()

    def close(self) -> None:
        self._requests.close()

    def links(self) -> list[Interface]:
        return interfaces.everything(self._requests)

    def dropping(self, interfaces: Collection[str]) -> Mapping[str, str]:
        return own_source_drops.dropping(interfaces)

    def gateways(self) -> Mapping[Address, bytes | None]:
        """Looks up one address of each family: there may be a million routes."""
        around = Neighbourhood(self._requests)
        found: dict[Address, bytes | None] = {}
        for hop in map(around.hop, FAR):
            if hop and hop.gateway:
                gateway = ip_address(hop.gateway)
                known = around.neighbour(gateway, hop.ifindex)
                found[gateway] = known.mac if known else None
        return found

    def known_as(self, mac: bytes) -> list[Address]:
        return sorted(
            (
                ip_address(message.get_attr("NDA_DST"))
                for message in self._requests.dump(RTM_GETNEIGH, ndmsg())
                if message["family"] in (AF_INET, AF_INET6)
                and mac_bytes(message.get_attr("NDA_LLADDR")) == mac
            ),
            key=lambda address: (address.version, address.packed),
        )
