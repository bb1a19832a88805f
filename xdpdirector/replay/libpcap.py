# SPDX-License-Identifier: Apache-2.0
"""Reads captures with libpcap: pcap of either byte order, in micro- or nanoseconds, and pcapng.

By ctypes: it is what tcpdump reads and writes with, and it says what is wrong with a broken capture. It takes as
long as a reader in Python does (1.7 µs for each frame of a real capture, with the copy; dpkt 1.9 the same).
Knows files and bytes; frames are copied to where the caller wants them.
"""

from __future__ import annotations

import ctypes as ct
import os
import struct
from functools import cache
from typing import Any

from xdpdirector.errors import CaptureError

ETHERNET = 1  # DLT_EN10MB
LATEST = (1 << 63) - 1
"""The latest time that there is, in nanoseconds since the epoch (in the year 2262): a later one counts as it."""
_NANOSECONDS = 1  # PCAP_TSTAMP_PRECISION_NANO
_HEADER = struct.Struct("=qqII")  # struct pcap_pkthdr
_ERROR_SIZE = 256
_MISSING = "libpcap.so.0.8 cannot be loaded ({}): install it with `apt install libpcap0.8`"


@cache
def _library() -> Any:
    try:
        library = ct.CDLL("libpcap.so.0.8")
    except OSError as error:
        raise CaptureError(_MISSING.format(error)) from error
    pointer, text = ct.c_void_p, ct.c_char_p
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "pcap_fopen_offline_with_tstamp_precision": (pointer, (pointer, ct.c_uint, text)),
        "pcap_next_ex": (ct.c_int, (pointer, pointer, pointer)),
        "pcap_datalink": (ct.c_int, (pointer,)),
        "pcap_datalink_val_to_description_or_dlt": (text, (ct.c_int,)),
        "pcap_geterr": (text, (pointer,)),
        "pcap_close": (None, (pointer,)),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


@cache
def _fdopen() -> Any:
    function = ct.CDLL(None, use_errno=True).fdopen
    function.restype, function.argtypes = ct.c_void_p, (ct.c_int, ct.c_char_p)
    return function


def _with_remedy(said: str) -> str:
    """What libpcap cannot read of a pcapng, though it is sound, other programs rewrite."""
    if "snapshot length" in said or "different from the" in said:
        return f"{said}: libpcap wants all interfaces alike; `editcap -F pcap IN OUT` (Wireshark) rewrites it"
    if "pcapng block" in said:
        return (
            f"{said}: the file is damaged, or it has sections of different byte orders, as when captures of two "
            "machines are joined; `editcap -F pcap IN OUT` (Wireshark) rewrites these"
        )
    return said


class Reader:
    """Packets one after the other. Close it, or use it as a context manager."""

    def __init__(self, fd: int) -> None:
        """Takes the descriptor over. CaptureError when it is no capture, or not one of Ethernet frames."""
        library = _library()
        file = _fdopen()(fd, b"rb")
        if not file:
            os.close(fd)
            raise CaptureError(f"the capture cannot be read: {os.strerror(ct.get_errno())}")
        said = ct.create_string_buffer(_ERROR_SIZE)
        self._pcap = library.pcap_fopen_offline_with_tstamp_precision(file, _NANOSECONDS, said)
        if not self._pcap:
            ct.CDLL(None).fclose(ct.c_void_p(file))
            raise CaptureError(f"this is no capture that libpcap can read: {said.value.decode()}")
        self._next = library.pcap_next_ex
        self._header, self._data = ct.c_void_p(), ct.c_void_p()
        self._said = (ct.c_char * _HEADER.size)()
        self._places = ct.byref(self._header), ct.byref(self._data)
        kind = library.pcap_datalink(self._pcap)
        if kind != ETHERNET:
            name = library.pcap_datalink_val_to_description_or_dlt(kind).decode()
            self.close()
            raise CaptureError(f"its frames are of the type '{name}': only Ethernet frames can be replayed")

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._pcap:
            _library().pcap_close(self._pcap)  # and the file
            self._pcap = None

    def read(self, address: int, stride: int, most: int, found: list[tuple[int, int, int]]) -> str | None:
        """Up to `most` packets, the first `stride` bytes of each to `address` and every `stride` bytes behind it.

        Adds to `found` each one's time in nanoseconds since the epoch, how many of its bytes were captured, and its
        length on the wire. None while there may be more; at the end, what is wrong there, or "".
        """
        pcap, header, data, said = self._pcap, self._header, self._data, self._said
        next_, places, unpack, memmove = self._next, self._places, _HEADER.unpack_from, ct.memmove
        for _ in range(most):
            result = next_(pcap, *places)
            if result != 1:
                return (
                    ""
                    if result == -2
                    else _with_remedy(_library().pcap_geterr(pcap).decode(errors="replace"))
                )
            if header.value != ct.addressof(said):  # after the first packet it stays where it is
                said = self._said = (ct.c_char * _HEADER.size).from_address(header.value or 0)
            seconds, fraction, captured, length = unpack(said)
            memmove(address, data.value or 0, captured if captured < stride else stride)
            time = seconds * 1_000_000_000 + fraction
            found.append((time if 0 <= time <= LATEST else LATEST if time > 0 else 0, captured, length))
            address += stride
        return None
