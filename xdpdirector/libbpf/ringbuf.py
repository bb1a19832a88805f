# SPDX-License-Identifier: Apache-2.0
"""Ring buffers, by which programs hand records of any size to user space, in order."""

from __future__ import annotations

import ctypes as ct
import os

from xdpdirector.libbpf.library import checked, functions

_TAKE = ct.CFUNCTYPE(ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_size_t)
_ENOUGH = -1


class RingBuffer:
    """The reading end of a map of type RINGBUF; there shall be one. Close it, or use it as a context manager."""

    def __init__(self, fd: int) -> None:
        """`fd` may be closed afterwards. OSError."""
        self._records: list[bytes] = []
        self._most = 0
        self._take = _TAKE(self._keep)  # libbpf keeps no reference to it
        new = functions().ring_buffer__new
        new.argtypes, new.restype = (ct.c_int, _TAKE, ct.c_void_p, ct.c_void_p), ct.c_void_p
        ct.set_errno(0)
        self._ring = new(fd, self._take, None, None)
        if not self._ring:
            number = ct.get_errno()
            raise OSError(number, f"opening a ring buffer: {os.strerror(number)}")

    def __enter__(self) -> RingBuffer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        free = functions().ring_buffer__free
        free.argtypes, free.restype = (ct.c_void_p,), None
        if self._ring:
            free(self._ring)
            self._ring = None

    def take(self, most: int) -> list[bytes]:
        """What is there now, the oldest first; no more than so many records."""
        self._records, self._most = [], most
        consume = functions().ring_buffer__consume
        consume.argtypes = (ct.c_void_p,)
        result = consume(self._ring)
        if result != _ENOUGH:
            checked(result, "reading a ring buffer")
        return self._records

    def _keep(self, context: int, data: int, size: int) -> int:
        """libbpf lets go of a record when this returns, and stops when it returns less than 0."""
        self._records.append(ct.string_at(data, size))
        return _ENOUGH if len(self._records) >= self._most else 0
