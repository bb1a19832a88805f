# SPDX-License-Identifier: Apache-2.0
"""The veth pair between the checks' namespace and one interface of the director.

Its inner end has the interface's MAC and addresses and answers no ARP. All frames that it sends leave by the
interface; replies that arrive there are redirected back. Knows frames and addresses, no backends.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable
from zlib import crc32

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from xdpdirector.health.probe_tunnels import ProbeTunnels, complete_checksums
from xdpdirector.model import Address
from xdpdirector.net import interfaces, tc_redirect
from xdpdirector.net.interfaces import IFF_UP, Interface
from xdpdirector.net.netlink import Message, Requests

IFF_NOARP = 1 << 7
LARGEST = 1500
# Source ports of probes, and identifiers of their pings: outside of Linux's ephemeral ports (32768 to 60999),
# so
# that no other process of this machine receives replies from a VIP there. Their highest four bits are set.
FIRST_PORT, LAST_PORT = 0xF000, 0xFFFF
PORTS = (0xF0, 0xF0)
PRIORITIES = range(0xC000, 0xC800)  # of our tc filters


class CheckVeth:
    """Up from its creation until `close`. `sources`: source address by IP version. OSError.

    The interface may change: see `is_of`. Others may change the configuration: see `is_whole`.
    """

    def __init__(
        self,
        outside: Requests,
        inside: Requests,
        namespace: int,
        link: Interface,
        instance: str,
        taken: set[Address],
        made: float = 0.0,
    ) -> None:
        """`taken`: addresses of the interface that are VIPs. `namespace`: a file descriptor. `made`: the
        time."""
        self.link, self.sources, self.made = link, _sources(link, taken), made
        self._outside, self._inside = outside, inside
        self._priorities: dict[Address, int] = {}
        self._protocols: dict[Address, int] = {}
        self._name = name = f"{prefix(instance)}{link.index}"
        self._encapsulates = False
        alias = f"health checks of XDP Director '{instance}' by {link.name}"
        _make_pair(outside, name, alias, link, namespace, _mtu(outside, link.index))
        with contextlib.ExitStack() as undo:
            self._outer = _index(outside, name)
            undo.callback(_remove_link, outside, self._outer)
            self.device = _index(inside, name)
            self._raise_ends()
            tc_redirect.add_hook(outside, self._outer)
            tc_redirect.steer(outside, self._outer, link.index, priority=1)
            self._made_hook = tc_redirect.add_hook(outside, link.index)
            undo.pop_all()

    def is_of(self, link: Interface | None, taken: set[Address]) -> bool:
        """True if it still fits the interface, whose MAC or addresses may have changed."""
        return link is not None and link.mac == self.link.mac and _sources(link, taken) == self.sources

    def is_whole(self, vip: Address) -> bool:
        """False if the redirection of this VIP's replies was removed from the interface, or the veth pair is
        down."""
        priority = self._priorities.get(vip)
        outer = interfaces.one(self._outside, self._outer)
        if priority is None or outer is None or not outer.up:
            return False
        found = tc_redirect.filters(self._outside, self.link.index, range(priority, priority + 1))
        return tc_redirect.Filter(priority, self._protocols[vip], self._outer) in found

    def encapsulate(self, tunnels: ProbeTunnels, control: socket.socket) -> None:
        """Let frames go through tunnels, if their MACs say so. `control`: a socket in the inner namespace."""
        if not self._encapsulates:
            complete_checksums(control, self._name)
            tunnels.attach(self._outer)
            self._encapsulates = True

    def steer(self, vip: Address) -> None:
        """Redirect replies of this VIP from now on."""
        if vip in self._priorities:
            return
        priority = next(one for one in PRIORITIES if one not in self._priorities.values())
        protocol, matches = tc_redirect.replies(vip, self.sources[vip.version], PORTS)
        self._priorities[vip], self._protocols[vip] = priority, protocol
        for match in matches:
            tc_redirect.steer(
                self._outside,
                self.link.index,
                self._outer,
                priority=priority,
                protocol=protocol,
                matches=match,
            )

    def release(self, vip: Address) -> None:
        """Stop the redirection: no check uses this VIP any more."""
        if vip in self._priorities:
            with contextlib.suppress(OSError):  # the interface is gone, with its filters
                priority, protocol = self._priorities.pop(vip), self._protocols.pop(vip)
                tc_redirect.remove(self._outside, self.link.index, priority, protocol)

    def close(self) -> None:
        """Remove the veth pair and its filters."""
        for vip in list(self._priorities):
            self.release(vip)
        with contextlib.suppress(OSError):
            if self._made_hook and tc_redirect.is_unused(self._outside, self.link.index):
                tc_redirect.remove_hook(self._outside, self.link.index)
        with contextlib.suppress(OSError):
            _remove_link(self._outside, self._outer)

    def _raise_ends(self) -> None:
        for address in self.sources.values():
            self._inside.change(RTM_NEWADDR, _address(address, self.device), NLM_F_CREATE | NLM_F_EXCL)
        for requests, index, flags in (
            (self._outside, self._outer, IFF_UP),
            (self._inside, self.device, IFF_UP | IFF_NOARP),
        ):
            message = _link(index)
            message["flags"], message["change"] = flags, flags
            requests.change(RTM_NEWLINK, message)


def prefix(instance: str) -> str:
    """The prefix of an instance's veth names. A name has at most 15 characters."""
    return f"xck{crc32(instance.encode()) & 0xFFFF:04x}."


def clear(requests: Requests, instance: str) -> None:
    """Remove what a killed process of this instance left: veth pairs, and filters that redirect to removed
    ones."""
    links = interfaces.everything(requests)
    for link in links:
        if link.name.startswith(prefix(instance)):
            with contextlib.suppress(OSError):  # the kernel removed it with its namespace
                _remove_link(requests, link.index)
    present = {link.index for link in links if not link.name.startswith(prefix(instance))}
    for link in links:
        if link.index in present:
            stale = {
                each
                for each in tc_redirect.filters(requests, link.index, PRIORITIES)
                if each.to not in present
            }
            for priority, protocol in {(each.priority, each.protocol) for each in stale}:
                tc_redirect.remove(requests, link.index, priority, protocol)
            if stale and tc_redirect.is_unused(requests, link.index):
                tc_redirect.remove_hook(requests, link.index)


def _sources(link: Interface, taken: set[Address]) -> dict[int, Address]:
    """The interface's own address of each version: that of the largest network; a link-local one only if
    there is no other."""
    own = [each for each in link.networks if each.ip not in taken]
    own.sort(key=lambda each: (each.is_link_local, each.network.prefixlen))
    return {each.version: each.ip for each in reversed(own)}


def _make_pair(requests: Requests, name: str, alias: str, link: Interface, namespace: int, mtu: int) -> None:
    peer = ifinfmsg()
    peer["attrs"] = [
        ("IFLA_IFNAME", name),
        ("IFLA_ADDRESS", link.mac.hex(":")),
        ("IFLA_MTU", mtu),
        ("IFLA_NET_NS_FD", namespace),
    ]
    data = {"attrs": [("VETH_INFO_PEER", peer)]}
    kind = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}
    attributes = [("IFLA_IFNAME", name), ("IFLA_MTU", mtu), ("IFLA_LINKINFO", kind)]
    requests.change(RTM_NEWLINK, _link(0, attributes), NLM_F_CREATE | NLM_F_EXCL)
    requests.change(RTM_NEWLINK, _link(_index(requests, name), [("IFLA_IFALIAS", alias)]))


def _link(index: int, attributes: Iterable[tuple[str, object]] = ()) -> Message:
    message = ifinfmsg()
    message["index"], message["attrs"] = index, list(attributes)
    return message


def _index(requests: Requests, name: str) -> int:
    return int(requests.get(RTM_GETLINK, _link(0, [("IFLA_IFNAME", name)]))["index"])


def _mtu(requests: Requests, index: int) -> int:
    return min(LARGEST, int(requests.get(RTM_GETLINK, _link(index)).get_attr("IFLA_MTU")))


def _remove_link(requests: Requests, index: int) -> None:
    requests.change(RTM_DELLINK, _link(index))


def _address(address: Address, index: int) -> Message:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = (
        (2, 10)[address.version == 6],
        address.max_prefixlen,
        index,
    )
    message["flags"] = IFA_F_NODAD if address.version == 6 else 0
    message["attrs"] = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address))]
    return message
