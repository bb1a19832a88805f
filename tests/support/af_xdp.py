# SPDX-License-Identifier: Apache-2.0
"""A user of AF_XDP (linux/if_xdp.h): a socket on one queue of a lab host's interface, in copy mode, and the XDP
program that sends it what comes in there. The socket counts frames and leaves them where they are."""

from __future__ import annotations

import ctypes  # noqa: TID251 (Python binds no socket of this family)
import errno
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from tests.support.lab_client import call_on, socket_on
from xdpdirector import libbpf
from xdpdirector.lab.host import Host
from xdpdirector.lab.waiting import wait_until
from xdpdirector.libbpf import MapType, XdpFlags, XdpVerdict

AF_XDP, SOL_XDP = 44, 283
MMAP_OFFSETS, RX_RING, UMEM_REG, FILL_RING, COMPLETION_RING = 1, 2, 4, 5, 6
RX_RING_AT, FILL_RING_AT = 0, 0x1_0000_0000  # XDP_PGOFF_RX_RING, XDP_UMEM_PGOFF_FILL_RING
COPY = 1 << 1
OFFSETS = struct.Struct("=16Q")  # of rx, tx, fill and completion ring: producer, consumer, descriptors, flags
RX_OFFSETS, FILL_OFFSETS = slice(0, 4), slice(8, 12)
RX_DESCRIPTOR, FILL_DESCRIPTOR = 16, 8  # bytes
FRAMES, FRAME = 64, 4096
PROGRAM = "xsk_def_prog"  # the name of libxdp's
REDIRECT_MAP = 51  # bpf_redirect_map()


class AfXdpSocket:
    """Bound to queue 0 inside the `with` block."""

    def __init__(self, host: Host, interface: str) -> None:
        self._host, self._interface = host, interface

    def __enter__(self) -> Self:
        self._index = call_on(self._host, lambda: socket.if_nametoindex(self._interface))
        self._socket = socket_on(self._host, AF_XDP, socket.SOCK_RAW)
        try:
            self._bind()
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._rx.close()  # a mapping keeps the socket, and with it the queue
        self._socket.close()

    def _bind(self) -> None:
        opened = self._socket
        self._frames = mmap.mmap(-1, FRAMES * FRAME)
        place = ctypes.addressof(ctypes.c_char.from_buffer(self._frames))
        opened.setsockopt(SOL_XDP, UMEM_REG, struct.pack("=QQIIII", place, FRAMES * FRAME, FRAME, 0, 0, 0))
        for ring in (FILL_RING, COMPLETION_RING, RX_RING):
            opened.setsockopt(SOL_XDP, ring, FRAMES)
        offsets = OFFSETS.unpack(opened.getsockopt(SOL_XDP, MMAP_OFFSETS, OFFSETS.size))
        self._received_at, _, descriptors, _ = offsets[RX_OFFSETS]
        self._rx = mmap.mmap(opened.fileno(), descriptors + FRAMES * RX_DESCRIPTOR, offset=RX_RING_AT)
        producer, _, descriptors, _ = offsets[FILL_OFFSETS]
        with mmap.mmap(opened.fileno(), descriptors + FRAMES * FILL_DESCRIPTOR, offset=FILL_RING_AT) as fill:
            struct.pack_into(f"={FRAMES}Q", fill, descriptors, *range(0, FRAMES * FRAME, FRAME))
            struct.pack_into("=I", fill, producer, FRAMES)
        address = struct.pack("=HHIII", AF_XDP, COPY, self._index, 0, 0)
        library = ctypes.CDLL(None, use_errno=True)

        def is_bound() -> bool:
            """The kernel gives back the queue of a socket that was closed a moment later, by a worker."""
            if not library.bind(opened.fileno(), address, len(address)):
                return True
            if ctypes.get_errno() == errno.EBUSY:
                return False
            raise OSError(ctypes.get_errno(), "binding an AF_XDP socket")

        wait_until(is_bound, "the AF_XDP socket has the queue")

    def received(self) -> int:
        """How many frames came, of FRAMES at the most."""
        return int(struct.unpack_from("=I", self._rx, self._received_at)[0])

    @contextmanager
    def redirecting(self) -> Iterator[None]:
        """Inside the block the interface has the program, in native mode. OSError when it has another one."""
        xsks = libbpf.map_create("xsks_map", MapType.XSKMAP, 4, 4, 1, 0)
        try:
            libbpf.update(xsks, struct.pack("=I", 0), struct.pack("=I", self._socket.fileno()))
            program = libbpf.xdp_prog_load(PROGRAM, _redirect(xsks))
        finally:
            os.close(xsks)  # the program keeps it
        try:
            flags = XdpFlags.NATIVE | XdpFlags.UPDATE_IF_NOEXIST
            call_on(self._host, lambda: libbpf.xdp_attach(self._index, program, flags))
            try:
                yield
            finally:
                call_on(self._host, lambda: libbpf.xdp_detach(self._index, XdpFlags.NATIVE, program))
        finally:
            os.close(program)


def _redirect(xsks: int) -> bytes:
    """return bpf_redirect_map(&xsks, ctx->rx_queue_index, XDP_PASS).

    struct bpf_insn: code, registers (the destination in the low half), offset, immediate.
    """
    instructions = (
        (0x61, 0x12, 16, 0),  # r2 = *(u32 *)(r1 + 16)
        (0x18, 0x11, 0, xsks),  # r1 = the map of this descriptor
        (0x00, 0x00, 0, 0),
        (0xB7, 0x03, 0, XdpVerdict.PASS),
        (0x85, 0x00, 0, REDIRECT_MAP),
        (0x95, 0x00, 0, 0),
    )
    return b"".join(struct.pack("=BBhi", *each) for each in instructions)
