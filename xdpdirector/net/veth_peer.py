# SPDX-License-Identifier: Apache-2.0
"""Whether native XDP can transmit on a veth. That depends on its peer, which may be in another network
namespace.

    the peer has no XDP program in native mode     it accepts no frames from XDP: all are lost
    the peer has checksum offload                  frames have no checksums: TCP and UDP are lost
    neither                                        it works

Generic mode has neither requirement.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool
from pyroute2.netlink.rtnl import RTM_GETLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg

from xdpdirector import libbpf
from xdpdirector.net import interfaces, netns
from xdpdirector.net.netlink import Message, Requests

RTM_GETNSID = 90
CHECKSUMS = ("tx-checksum-ip-generic", "tx-checksum-ipv4", "tx-checksum-ipv6")

T = TypeVar("T")


@dataclass(frozen=True)
class Peer:
    """The other end of a veth. `has_program`: in native mode. `checksums`: checksum offload is on; None if
    not permitted to read it."""

    name: str
    has_program: bool
    checksums: bool | None

    @property
    def fault(self) -> str:
        """Why native mode loses packets; empty if it does not."""
        if not self.has_program:
            return f"its peer {self.name} has no XDP program of its own and takes no frames from XDP"
        if self.checksums:
            return (
                f"its peer {self.name} leaves checksums to the hardware, and XDP sends frames on without them"
            )
        return ""


READY = "XDPDIRECTOR_NATIVE"
"""Environment variable: the interfaces whose peers were ready when root checked."""
UNSEEN = "its peer is in a network namespace that cannot be looked at"


def remedy(interface: str, peer: str = "") -> str:
    """Both possible remedies, as text."""
    name = peer or "PEER"
    return (
        f"give the peer an XDP program (XDP_PASS is enough) and switch its offload off (`ethtool -K {name} tx "
        f"off`); or take generic mode: `mode: generic`, and `xdpdirector unload`, since the mode of {interface} "
        "cannot be changed in place"
    )


def fault(interface: str) -> str:
    """Why native XDP loses, or may lose, frames sent on this interface; empty if it is no veth."""
    try:
        with Requests() as requests:
            link = _link(requests, name=interface)
            if interfaces.interface_of(link).kind != "veth":
                return ""
            found = _peer(requests, link)
    except OSError:
        return ""  # it was removed meanwhile
    if found is None:
        return "" if interface in os.environ.get(READY, "").split() else UNSEEN
    return found.fault


def note_ready(names: Iterable[str]) -> None:
    """Store the result for these interfaces, as this process may enter namespaces, in the environment of the
    process that it executes, which may not."""
    os.environ[READY] = " ".join(name for name in names if not fault(name))


def peer(interface: str) -> Peer | None:
    """None for an interface that is no veth, and for a peer that cannot be read. OSError: no such interface."""
    with Requests() as requests:
        link = _link(requests, name=interface)
        return _peer(requests, link) if interfaces.interface_of(link).kind == "veth" else None


def _peer(requests: Requests, link: Message) -> Peer | None:
    index, number = link.get_attr("IFLA_LINK"), link.get_attr("IFLA_LINK_NETNSID")
    with contextlib.suppress(OSError):
        if number is None:
            return _look(index)
        place = _namespace(requests, number)
        return _visited(place, lambda: _look(index)) if place else None
    return None


def _look(index: int) -> Peer:
    """Read the peer, in its namespace."""
    with Requests() as requests:
        name = _link(requests, index=index).get_attr("IFLA_IFNAME")
    return Peer(name, bool(libbpf.xdp_query(index).native), _checksums(name))


def _checksums(name: str) -> bool | None:
    with contextlib.suppress(OSError, EthtoolError), contextlib.closing(IoctlEthtool(name)) as tool:
        found = tool.get_features()
        known = set(found.keys())
        return any(found.is_active(each) for each in CHECKSUMS if each in known)
    return None


def _visited(place: Path, work: Callable[[], T]) -> T:
    return netns.visit(place, work)


def _namespace(requests: Requests, number: int) -> Path | None:
    """A path of the namespace with this number (nsid) here."""
    for path in netns.everywhere():
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _number(requests, descriptor) == number:
                    return path
            finally:
                os.close(descriptor)
    return None


def _number(requests: Requests, descriptor: int) -> int | None:
    request = nsidmsg()
    request["attrs"] = [("NETNSA_FD", descriptor)]
    found = requests.get(RTM_GETNSID, request).get_attr("NETNSA_NSID")
    return None if found is None else int(found)


def _link(requests: Requests, *, index: int = 0, name: str = "") -> Message:
    request = ifinfmsg()
    request["index"] = index
    request["attrs"] = [("IFLA_IFNAME", name)] if name else []
    return requests.get(RTM_GETLINK, request)
