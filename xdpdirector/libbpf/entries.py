# SPDX-License-Identifier: Apache-2.0
"""The entries of maps: one by one as bytes, or many at once in the caller's buffers."""

from __future__ import annotations

import ctypes as ct
import errno
from collections.abc import Iterator
from typing import Any

from xdpdirector.libbpf.constants import Update
from xdpdirector.libbpf.library import Options, checked, fields, functions
from xdpdirector.libbpf.objects import map_info


class _BatchOptions(Options):
    _fields_ = fields("size_t sz; u64 elem_flags flags")


def lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """The value, or None. `size` must be the map's `value_bytes`: the kernel writes that much."""
    value = ct.create_string_buffer(size)
    result = functions().bpf_map_lookup_elem(fd, key, value)
    if result == -errno.ENOENT:
        return None
    checked(result, "reading an entry")
    return value.raw


def update(fd: int, key: bytes, value: bytes, flags: int = Update.ANY) -> None:
    """Write an entry; E2BIG or ENOSPC when the map is full. `value` must be `value_bytes` long."""
    checked(functions().bpf_map_update_elem(fd, key, value, flags), "writing an entry")


def delete(fd: int, key: bytes) -> bool:
    """Whether there was such an entry."""
    result = functions().bpf_map_delete_elem(fd, key)
    if result == -errno.ENOENT:
        return False
    checked(result, "deleting an entry")
    return True


def update_batch(fd: int, keys: int, values: int, count: int) -> None:
    """Write `count` entries from two packed arrays at those addresses."""
    done = ct.c_uint32(count)
    options = _BatchOptions()
    result = functions().bpf_map_update_batch(fd, keys, values, ct.addressof(done), ct.addressof(options))
    checked(result, f"writing {count} entries (stopped after {done.value})")


def delete_batch(fd: int, keys: int, count: int) -> int:
    """Delete entries until one of them is missing; how many were deleted."""
    done = ct.c_uint32(count)
    options = _BatchOptions()
    result = functions().bpf_map_delete_batch(fd, keys, ct.addressof(done), ct.addressof(options))
    if result != -errno.ENOENT:
        checked(result, f"deleting {count} entries (stopped after {done.value})")
    return done.value


def lookup_range(fd: int, first: int, count: int, values: int) -> None:
    """Read `count` entries of an array, from index `first` on, into packed values (`value_bytes` each) at that
    address. The kernel begins behind the index that it is given, and at 0 behind one that is too high (per-CPU
    arrays: since Linux 5.13)."""
    keys = (ct.c_uint32 * count)()
    behind, token, done = ct.c_uint32((first - 1) & 0xFFFFFFFF), ct.c_uint32(), ct.c_uint32(count)
    options = _BatchOptions()
    result = functions().bpf_map_lookup_batch(
        fd,
        ct.addressof(behind),
        ct.addressof(token),
        ct.addressof(keys),
        values,
        ct.addressof(done),
        ct.addressof(options),
    )
    checked(result, f"reading {count} entries from {first} on (stopped after {done.value})")


def lookup_batches(fd: int, keys: int, values: int, capacity: int) -> Iterator[int]:
    """Read a whole map in steps: each yields how many entries now stand in the two arrays at those addresses.

    The arrays have room for `capacity` packed keys and values (`value_bytes` each) and every step uses them
    again. A hash map needs a capacity above its fullest bucket (ENOSPC otherwise; some hundreds do). Entries
    that come and go meanwhile may or may not appear.
    """
    token = ct.create_string_buffer(max(8, map_info(fd).key_size))
    options = _BatchOptions()
    count = ct.c_uint32()
    start: Any = None
    while True:
        count.value = capacity
        result = functions().bpf_map_lookup_batch(
            fd, start, token, keys, values, ct.addressof(count), ct.addressof(options)
        )
        if result != -errno.ENOENT:
            checked(result, f"reading entries, {capacity} at a time")
        if count.value:
            yield count.value
        if result == -errno.ENOENT:
            return
        start = token
