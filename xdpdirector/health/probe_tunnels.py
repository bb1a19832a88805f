# SPDX-License-Identifier: Apache-2.0
"""Checks of VIPs behind tunnels: what encapsulates the probes' frames, and what a tunnelled path needs besides.

A probe's frame has a MAC that names its tunnel. The packet program `probe` at the director's end of the veth pair
(bpf/probe.h) writes the outer headers that a client's packet would have. So no tunnel device is needed here.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from array import array
from typing import NamedTuple, Protocol

from xdpdirector.net.tunnel import Tunnel

_SIOCETHTOOL, _ETHTOOL_STXCSUM = 0x8946, 0x17


class Through(NamedTuple):
    """A tunnel with the Ethernet addresses of its frames."""

    tunnel: Tunnel
    mac: bytes
    source_mac: bytes


class ProbeTunnels(Protocol):
    """Implemented by `xdpdirector.dataplane.probe_tunnels.RealProbeTunnels`."""

    def attach(self, ifindex: int) -> None:
        """Encapsulate frames that arrive at this interface from now on. OSError."""

    def mac(self, number: int) -> bytes:
        """The destination MAC of frames for that tunnel."""

    def set(self, number: int, tunnel: Tunnel, mac: bytes, source_mac: bytes) -> None:
        """OSError."""

    def forget(self, number: int) -> None: ...


def complete_checksums(control: socket.socket, device: str) -> None:
    """Let the kernel write checksums itself before frames leave by this device: no card would find the inner header
    behind the outer one. `control`: a socket in the device's namespace. OSError."""
    value = array("I", [_ETHTOOL_STXCSUM, 0])
    request = struct.pack("16sP16x", device.encode(), value.buffer_info()[0])
    fcntl.ioctl(control, _SIOCETHTOOL, request)
