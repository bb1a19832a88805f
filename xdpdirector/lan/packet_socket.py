# SPDX-License-Identifier: Apache-2.0
"""Packet sockets on all interfaces: send frames, and receive those that the socket filters pass.

Needs CAP_NET_RAW. Sockets belong to the network namespace of the thread that makes them. Frames that the XDP
program forwards do not reach packet sockets, so a busy data plane costs nothing. Does not parse frames.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import logging
import socket
import struct
from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

from xdpdirector.lan import socket_filter
from xdpdirector.model import Address
from xdpdirector.net.garp import ETH_P_ARP, ETH_P_IP, ETH_P_IPV6

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27  # asm-generic/socket.h
READS_AT_ONCE = 64
LARGEST = 2048

OnFrame = Callable[[str, bytes], None]

log = logging.getLogger(__name__)


class Wire(Protocol):
    """Interface to a network, implemented by `PacketWire`. `on_frame(interface, frame)` is called on the
    loop."""

    def open(self, on_frame: OnFrame) -> None:
        """OSError if it cannot be opened, most likely PermissionError."""

    def close(self) -> None: ...

    def listen(self, addresses: Collection[Address], ident: int, port: int) -> None:
        """Receive claims to these addresses, possibly to others too, and responses to echoes with `ident` and
        to SYNs from `port`."""

    def send(self, interface: str, frame: bytes) -> bool:
        """Send a frame; False if it could not be sent."""


class PacketWire:
    """Packet sockets on the host's interfaces."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}

    def open(self, on_frame: OnFrame) -> None:
        loop = asyncio.get_running_loop()
        try:
            for protocol in (ETH_P_ARP, ETH_P_IP, ETH_P_IPV6):
                made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
                self._sockets[protocol] = made
                made.setblocking(False)
                _attach(made, socket_filter.assembled([]))
                loop.add_reader(made, _read, made, on_frame)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        for made in self._sockets.values():
            asyncio.get_running_loop().remove_reader(made)
            made.close()
        self._sockets.clear()

    def listen(self, addresses: Collection[Address], ident: int, port: int) -> None:
        _attach(self._sockets[ETH_P_IP], socket_filter.assembled(socket_filter.ipv4(ident, port)))
        for protocol, rules in (
            (ETH_P_ARP, partial(socket_filter.arp, addresses)),
            (ETH_P_IPV6, partial(socket_filter.ipv6, ident, port, addresses)),
        ):
            exact, coarse = socket_filter.assembled(rules()), socket_filter.assembled(rules(coarse=True))
            _attach(self._sockets[protocol], exact, coarse)

    def send(self, interface: str, frame: bytes) -> bool:
        try:
            self._sockets[ETH_P_ARP].sendto(frame, (interface, 0))
        except OSError as error:  # interface down or removed, or its queue is full
            log.debug("a probe on %s was not sent: %s", interface, error)
            return False
        return True


def _attach(made: socket.socket, *programs: bytes) -> None:
    """Attach the first filter that the kernel has memory for (`optmem_max`); without any, all frames are
    received. struct sock_fprog points to the instructions, which the kernel copies."""
    for program in filter(None, programs):
        code = array.array("B", program)
        place = struct.pack("HP", len(program) // 8, code.buffer_info()[0])
        try:
            made.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, place)
        except OSError as error:
            if error.errno != errno.ENOMEM:
                raise
        else:
            return
    log.debug("the kernel has no memory for a socket's filter (net.core.optmem_max): all frames are read")
    with contextlib.suppress(FileNotFoundError):  # there is no filter
        made.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)


def _read(made: socket.socket, on_frame: OnFrame) -> None:
    for _ in range(READS_AT_ONCE):
        try:
            frame, (interface, *_) = made.recvfrom(LARGEST)
        except BlockingIOError:
            return
        except OSError as error:  # the interface went down
            log.debug("reading probes: %s", error)
            return
        on_frame(interface, frame)
