# SPDX-License-Identifier: Apache-2.0
"""The MTU of an interface, asked for without netlink: a command that needs nothing else starts at once."""

from __future__ import annotations

import fcntl
import socket
import struct

ETHERNET_MTU = 1500
_SIOCGIFMTU = 0x8921


def mtu_of(interface: str) -> int:
    """0 where there is no such interface."""
    request = struct.pack("16si20x", interface.encode()[:15], 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            answer = fcntl.ioctl(asking, _SIOCGIFMTU, request)
        except OSError:
            return 0
    return int(struct.unpack_from("i", answer, 16)[0])
