# SPDX-License-Identifier: Apache-2.0
"""The facts of a network interface: netlink for what all have, ethtool for what drivers tell, libbpf for XDP.

Never /sys/class/net: in a network namespace it may show another one's interfaces.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool
from pyroute2.netlink.rtnl import RTM_GETLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from xdpdirector import libbpf
from xdpdirector.libbpf import XdpMode
from xdpdirector.net import driver_stats, interfaces, veth_peer
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.netlink import Message, Requests
from xdpdirector.net.veth_peer import Peer

IFF_UP, IFF_LOWER_UP = 1 << 0, 1 << 16
SIOCETHTOOL, GET_DRIVER_INFO = 0x8946, 3
DRIVER_INFO = 196  # struct ethtool_drvinfo: cmd, driver[32], version[32], ...
_MODES = {XdpMode.NATIVE: "native", XdpMode.GENERIC: "generic"}


@dataclass(frozen=True)
class Card:
    """`kind`: veth, bond, vlan ...; empty for hardware. `driver`: empty when unknown. `features`: by ethtool's
    names, whether it is on. `queues`: channels that receive, in use and at most; None when nobody says.
    `program_id` 0: no XDP program. `program`: its name, empty when it may not be known. `port_fault`: see
    `interfaces.port_fault`. `arp_ignore`: None for what is not Ethernet, and for ports. `peer`: of a veth, if it
    may be looked at. `transmit_errors`: see `driver_stats`; None when the driver tells nothing."""

    name: str
    up: bool
    carrier: bool
    mtu: int
    kind: str = ""
    driver: str = ""
    features: Mapping[str, bool] = field(default_factory=dict)
    queues: tuple[int, int] | None = None
    transmit_queues: int = 1
    mode: str = ""
    program_id: int = 0
    program: str = ""
    port_fault: str = ""
    arp_ignore: int | None = None
    peer: Peer | None = None
    transmit_errors: int | None = None


def read_all() -> dict[str, Card]:
    """OSError when netlink does not answer."""
    with Requests() as requests:
        links = requests.dump(RTM_GETLINK, ifinfmsg())
    known = {link["index"]: interfaces.interface_of(link) for link in links}
    return {link.get_attr("IFLA_IFNAME"): _card(link, known) for link in links}


def _card(link: Message, known: Mapping[int, Interface]) -> Card:
    here = known[link["index"]]
    name, info = link.get_attr("IFLA_IFNAME"), link.get_attr("IFLA_LINKINFO")
    mode, program_id, program = _program(link["index"])
    return Card(
        name=name,
        up=bool(link["flags"] & IFF_UP),
        carrier=bool(link["flags"] & IFF_LOWER_UP),
        mtu=link.get_attr("IFLA_MTU") or 0,
        kind=(info.get_attr("IFLA_INFO_KIND") if info else "") or "",
        driver=_driver(name),
        features=_features(name),
        queues=_queues(name),
        transmit_queues=link.get_attr("IFLA_NUM_TX_QUEUES") or 1,
        mode=mode,
        program_id=program_id,
        program=program,
        port_fault=interfaces.port_fault(here, known.values()),
        arp_ignore=here.arp.ignore if here.mac and not here.master else None,
        peer=_peer(name) if here.kind == "veth" else None,
        transmit_errors=driver_stats.of([name]).get(name),
    )


def _peer(name: str) -> Peer | None:
    with contextlib.suppress(OSError):  # it went away meanwhile
        return veth_peer.peer(name)
    return None


def _program(ifindex: int) -> tuple[str, int, str]:
    """Mode, id and name; going by the id needs CAP_SYS_ADMIN."""
    state = libbpf.xdp_query(ifindex)
    if not state.program_id:
        return "", 0, ""
    name = ""
    with contextlib.suppress(OSError):
        fd = libbpf.prog_fd(state.program_id)
        try:
            name = libbpf.prog_info(fd).name
        finally:
            os.close(fd)
    return _MODES.get(state.mode, "hardware"), state.program_id, name


def _driver(name: str) -> str:
    """ETHTOOL_GDRVINFO, which pyroute2 does not have."""
    answer = array.array("B", struct.pack("=I", GET_DRIVER_INFO) + bytes(DRIVER_INFO - 4))
    request = struct.pack("16sP", name.encode(), answer.buffer_info()[0])
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        fcntl.ioctl(asking, SIOCETHTOOL, request)
        return answer.tobytes()[4:36].partition(b"\0")[0].decode(errors="replace")
    return ""


def _features(name: str) -> dict[str, bool]:
    with contextlib.suppress(OSError, EthtoolError), contextlib.closing(IoctlEthtool(name)) as tool:
        found = tool.get_features()
        return {each: found.is_active(each) for each in found.keys() if each}  # noqa: SIM118 (no mapping)
    return {}


def _queues(name: str) -> tuple[int, int] | None:
    with contextlib.suppress(OSError, EthtoolError), contextlib.closing(IoctlEthtool(name)) as tool:
        found = tool.get_channels()
        return found.combined_count + found.rx_count, found.max_combined + found.max_rx
    return None
