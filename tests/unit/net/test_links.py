# SPDX-License-Identifier: Apache-2.0
"""What an interface is, by the message that the kernel sends about it, put together here as linux/if_link.h has it.

Not every kernel has VLANs: the bytes are what one with them sends.
"""

from __future__ import annotations

import struct

import pytest
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from xdpdirector.net.interfaces import Interface, Tag, interface_of, port_fault

ADDRESS, NAME, LINK, MASTER, LINKINFO, NETNSID = 1, 3, 5, 10, 18, 37  # IFLA_*
XDP, XDP_ATTACHED, XDP_PROGRAM = 43, 2, 4  # IFLA_XDP, IFLA_XDP_*
KIND, DATA = 1, 2  # IFLA_INFO_*
VLAN_ID, VLAN_FLAGS, VLAN_PROTOCOL = 1, 2, 5  # IFLA_VLAN_*
NEWLINK, ETHER, UP = 16, 1, 0x10043

MAC = bytes.fromhex("020000000007")


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def number(value: int) -> bytes:
    return struct.pack("=I", value)


def vlan(ident: int, ethertype: int = 0x8100) -> bytes:
    data = (
        attribute(VLAN_PROTOCOL, struct.pack("!H", ethertype))
        + attribute(VLAN_ID, struct.pack("=H", ident))
        + attribute(VLAN_FLAGS, struct.pack("=II", 1, 0xFFFFFFFF))
    )
    return attribute(LINKINFO, attribute(KIND, b"vlan\0") + attribute(DATA, data))


def kind(name: bytes) -> bytes:
    return attribute(LINKINFO, attribute(KIND, name + b"\0"))


def read(*attributes: bytes) -> Interface:
    """The interface of this message: eth0.7, number 4, up, with a MAC."""
    content = struct.pack("=BxHiII", 0, ETHER, 4, UP, 0)
    content += attribute(NAME, b"eth0.7\0") + attribute(ADDRESS, MAC) + b"".join(attributes)
    message = struct.pack("=IHHII", 16 + len(content), NEWLINK, 0, 0, 0) + content
    [decoded] = MarshalRtnl().parse(message)
    return interface_of(decoded)


PLAIN = {"name": "eth0.7", "index": 4, "mac": MAC, "up": True}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ([], {}),
        ([attribute(LINK, number(2)), vlan(7)], {"lower": 2, "vlan": Tag(7), "kind": "vlan"}),
        (
            [attribute(LINK, number(2)), vlan(4094, 0x88A8)],
            {"lower": 2, "vlan": Tag(4094, 0x88A8), "kind": "vlan"},
        ),
        (
            [attribute(LINK, number(2)), attribute(NETNSID, number(0)), vlan(7)],
            {"vlan": Tag(7), "kind": "vlan"},
        ),
        ([attribute(LINK, number(2)), kind(b"macvlan")], {"lower": 2, "kind": "macvlan"}),
        ([attribute(LINK, number(9)), attribute(NETNSID, number(3)), kind(b"veth")], {"kind": "veth"}),
        (
            [attribute(XDP, attribute(XDP_ATTACHED, b"\1") + attribute(XDP_PROGRAM, number(42)))],
            {"program": 42},
        ),
        ([attribute(MASTER, number(5)), kind(b"dummy")], {"master": 5, "kind": "dummy"}),
    ],
    ids=["plain", "VLAN", "802.1ad", "VLAN of another namespace's", "macvlan", "veth", "XDP program", "port"],
)
def test_a_link_is_what_its_message_says(attributes: list[bytes], expected: dict[str, object]) -> None:
    assert read(*attributes) == Interface(**(PLAIN | expected))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "is_port"), [("bridge", True), ("bond", True), ("team", True), ("vrf", False)]
)
def test_a_port_is_named_with_its_master(kind: str, is_port: bool) -> None:
    """What comes in at an interface of a VRF is its own."""
    above = Interface("above", 3, b"", True, kind=kind)
    port = Interface("port", 4, b"", True, master=3)

    fault = port_fault(port, [above, port])

    assert (f"a port of the {kind} 'above'" in fault) == is_port
    assert bool(fault) == is_port
    assert port_fault(above, [above, port]) == ""
