# SPDX-License-Identifier: Apache-2.0
"""Multicast sockets of the IPVS sync protocol, bound to one interface. Knows no messages."""

from __future__ import annotations

import errno
import os
import socket
import struct
from ipaddress import IPv4Address

from xdpdirector.model.lvs import LvsSyncSpec

SO_RXQ_OVFL = 40  # <asm-generic/socket.h>; the module socket has no name for it
RECEIVE_BUFFER = 4 << 20
LONGEST = 1 << 16
TTL = 1


def receiving(spec: LvsSyncSpec) -> socket.socket:
    """Takes what comes for the group by the interface; nothing else. OSError when it cannot be opened."""
    index = socket.if_nametoindex(spec.interface)
    made = socket.socket(_family(spec), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        made.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, spec.interface.encode() + b"\0")
        made.bind((str(spec.group), spec.port))
        if isinstance(spec.group, IPv4Address):
            member = struct.pack("=4s4si", spec.group.packed, bytes(4), index)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        else:
            member = struct.pack("=16si", spec.group.packed, index)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, member)
    except BaseException:
        made.close()
        raise
    return made


def sending(spec: LvsSyncSpec) -> socket.socket:
    """Connected to the group by the interface. This host does not hear itself. OSError when it cannot be opened."""
    index = socket.if_nametoindex(spec.interface)
    made = socket.socket(_family(spec), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, spec.interface.encode() + b"\0")
        if isinstance(spec.group, IPv4Address):
            out = struct.pack("=4s4si", bytes(4), bytes(4), index)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, out)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, TTL)
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
        made.connect((str(spec.group), spec.port))
    except BaseException:
        made.close()
        raise
    return made


def is_bound(opened: socket.socket, spec: LvsSyncSpec) -> bool:
    """Whether its interface is there still: the socket of one that was removed hears nothing, without an error."""
    try:
        name = opened.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)
    except OSError:
        return False
    return name.rstrip(b"\0") == spec.interface.encode()


def burst(from_: socket.socket, most: int) -> tuple[list[bytes], int]:
    """Datagrams that are there, at most so many, and how many the socket has lost since it was opened."""
    found: list[bytes] = []
    lost = 0
    while len(found) < most:
        try:
            octets, ancillary, _, _ = from_.recvmsg(LONGEST, socket.CMSG_SPACE(4))
        except BlockingIOError:
            break
        found.append(octets)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, SO_RXQ_OVFL):
                (lost,) = struct.unpack("=I", data[:4])
    return found, lost


def reason(error: OSError, interface: str) -> str:
    """For people."""
    if error.errno in (errno.ENODEV, errno.ENXIO) or error.errno is None:
        return f"there is no interface {interface}"
    if error.errno == errno.ENETUNREACH:
        return f"{interface} has no address and no route that a datagram could leave by"
    return os.strerror(error.errno)


def _family(spec: LvsSyncSpec) -> int:
    return socket.AF_INET if isinstance(spec.group, IPv4Address) else socket.AF_INET6
