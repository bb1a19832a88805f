# SPDX-License-Identifier: Apache-2.0
"""A thin typed binding of libbpf.so.1: pinned objects, maps, XDP attachments, test runs.

Knows nothing of the director: file descriptors, bytes and numbers only. Functions return values or raise
OSError (errno and what failed); a descriptor that they return is the caller's to close. libbpf's prints are
kept away from stderr; the kernel's explanation of a refusal (netlink extack) becomes part of the error.
The C side is declared in libbpf's bpf.h and libbpf.h (1.0 and later), the structs in linux/bpf.h.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from xdpdirector.errors import DataplaneError

SONAME = "libbpf.so.1"
WARNING = 0
EXTACK_PREFIX = "libbpf: Kernel error message: "
MAX_MESSAGES = 8
TEST_FRAME_ROOM = 4096
LIVE_BATCH = 64


class MapType(IntEnum):
    """enum bpf_map_type, as far as a director can meet them."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVMAP = 14
    CPUMAP = 16
    XSKMAP = 17
    QUEUE = 22
    DEVMAP_HASH = 25
    RINGBUF = 27


PER_CPU_TYPES = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})


class Update(IntEnum):
    """What an update may do with an entry that is there, or not (BPF_ANY, BPF_NOEXIST, BPF_EXIST)."""

    ANY = 0
    NEW = 1
    EXISTING = 2


class XdpFlags(IntFlag):
    """XDP_FLAGS_* of linux/if_link.h."""

    NONE = 0
    UPDATE_IF_NOEXIST = 1
    GENERIC = 2
    NATIVE = 4
    REPLACE = 16


class XdpMode(IntEnum):
    """XDP_ATTACHED_* of linux/if_link.h. MULTI: a native or generic program beside one in hardware."""

    NONE = 0
    NATIVE = 1
    GENERIC = 2
    HARDWARE = 3
    MULTI = 4


class XdpVerdict(IntEnum):
    """enum xdp_action."""

    ABORTED = 0
    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4


TEST_RUN_LIVE_FRAMES = 2
BPF_PROG_TYPE_XDP = 6


_C_TYPES = {
    "u8": ct.c_uint8,
    "u32": ct.c_uint32,
    "u64": ct.c_uint64,
    "int": ct.c_int,
    "size_t": ct.c_size_t,
    "pointer": ct.c_void_p,
    "tag": ct.c_uint8 * 8,
    "name": ct.c_char * 16,
}


def _fields(text: str) -> list[tuple[str, Any]]:
    """Fields of a struct from `TYPE name name ...; TYPE ...`."""
    groups = [group.split() for group in text.split(";")]
    return [(name, _C_TYPES[group[0]]) for group in groups for name in group[1:]]


class _MapInfo(ct.Structure):
    """struct bpf_map_info, up to `name`: the kernel fills as much as it is given room for."""

    _fields_ = _fields("u32 type id key_size value_size max_entries flags; name name")


class _ProgramInfo(ct.Structure):
    """struct bpf_prog_info, up to `verified_instructions` (Linux 5.16; stays 0 before)."""

    _fields_ = _fields(
        "u32 type id; tag tag; u32 jited_length xlated_length; u64 jited_at xlated_at load_time;"
        "u32 created_by_uid map_count; u64 map_ids; name name; u32 ifindex gpl; u64 netns_dev netns_ino;"
        "u32 ksym_count function_count; u64 ksyms function_lengths; u32 btf_id function_info_size;"
        "u64 function_info; u32 function_info_count line_info_count; u64 line_info jited_line_info;"
        "u32 jited_line_info_count line_info_size jited_line_info_size tag_count; u64 tags;"
        "u64 run_time_ns run_count recursion_misses; u32 verified_instructions attach_btf_object attach_btf"
    )


class _Options(ct.Structure):
    """libbpf's options start with their own size."""

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.sz: int = ct.sizeof(self)


class _BatchOptions(_Options):
    _fields_ = _fields("size_t sz; u64 elem_flags flags")


class _AttachOptions(_Options):
    _fields_ = _fields("size_t sz; int old_prog_fd padding")


class _QueryOptions(_Options):
    _fields_ = _fields("size_t sz; u32 program native hardware generic; u8 mode")


class _TestRunOptions(_Options):
    _fields_ = _fields(
        "size_t sz; pointer data_in data_out; u32 data_size_in data_size_out;"
        "pointer ctx_in ctx_out; u32 ctx_size_in ctx_size_out;"
        "u32 retval; int repeat; u32 duration flags cpu batch_size"
    )


_PRINT = ct.CFUNCTYPE(ct.c_int, ct.c_int, ct.c_char_p, ct.c_void_p)
_FD, _PTR, _U32, _TEXT = ct.c_int, ct.c_void_p, ct.c_uint32, ct.c_char_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "bpf_obj_get": (_TEXT,),
    "bpf_obj_pin": (_FD, _TEXT),
    "bpf_obj_get_info_by_fd": (_FD, _PTR, _PTR),
    "bpf_prog_get_fd_by_id": (_U32,),
    "bpf_map_lookup_elem": (_FD, _PTR, _PTR),
    "bpf_map_update_elem": (_FD, _PTR, _PTR, ct.c_uint64),
    "bpf_map_delete_elem": (_FD, _PTR),
    "bpf_map_lookup_batch": (_FD, _PTR, _PTR, _PTR, _PTR, _PTR, _PTR),
    "bpf_map_update_batch": (_FD, _PTR, _PTR, _PTR, _PTR),
    "bpf_map_delete_batch": (_FD, _PTR, _PTR, _PTR),
    "bpf_xdp_attach": (_FD, _FD, _U32, _PTR),
    "bpf_xdp_detach": (_FD, _U32, _PTR),
    "bpf_xdp_query": (_FD, _FD, _PTR),
    "bpf_prog_test_run_opts": (_FD, _PTR),
    "bpf_prog_load": (_FD, _TEXT, _TEXT, _TEXT, ct.c_size_t, _PTR),
    "libbpf_num_possible_cpus": (),
}


class _Library:
    """The loaded library and the last things that it wanted to print."""

    def __init__(self) -> None:
        try:
            self.c: Any = ct.CDLL(SONAME)
        except OSError as error:
            raise DataplaneError(
                f"{SONAME} cannot be loaded ({error}): install it with `apt install libbpf1`"
            ) from error
        for name, arguments in _SIGNATURES.items():
            function = getattr(self.c, name)
            function.argtypes, function.restype = arguments, ct.c_int
        self.messages: deque[str] = deque(maxlen=MAX_MESSAGES)
        self._format = ct.CDLL(None).vsnprintf
        self._format.argtypes = (ct.c_char_p, ct.c_size_t, ct.c_char_p, ct.c_void_p)
        self._print = _PRINT(self._keep)
        self.c.libbpf_set_print.restype = ct.c_void_p
        self.c.libbpf_set_print(self._print)

    def _keep(self, level: int, template: bytes, arguments: int) -> int:
        if level == WARNING:
            text = ct.create_string_buffer(512)
            self._format(text, len(text), template, arguments)
            self.messages.append(text.value.decode(errors="replace").strip().removeprefix(EXTACK_PREFIX))
        return 0


@cache
def _library() -> _Library:
    return _Library()


def _c() -> Any:
    return _library().c


def _checked(result: int, what: str, path: str | None = None) -> int:
    """libbpf 1.x answers -errno."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}", *([path] if path else []))
    return result


def possible_cpus() -> int:
    """Values that an entry of a per-CPU map has."""
    return _checked(_c().libbpf_num_possible_cpus(), "counting the possible CPUs")


# Pinned objects


def obj_get(path: str | Path) -> int:
    """A descriptor of the map or program pinned there."""
    return _checked(_c().bpf_obj_get(os.fsencode(path)), "opening a pinned object", os.fspath(path))


def obj_pin(fd: int, path: str | Path) -> None:
    """Keep the object alive under that name on bpffs; EEXIST when the name is taken."""
    _checked(_c().bpf_obj_pin(fd, os.fsencode(path)), "pinning", os.fspath(path))


@contextmanager
def opened(path: str | Path) -> Iterator[int]:
    """`obj_get` for the length of a block."""
    fd = obj_get(path)
    try:
        yield fd
    finally:
        os.close(fd)


@dataclass(frozen=True)
class MapInfo:
    type: int
    id: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    name: str

    @property
    def value_bytes(self) -> int:
        """Bytes of a value for user space: in a per-CPU map of all CPUs, each rounded up to 8."""
        if self.type not in PER_CPU_TYPES:
            return self.value_size
        return (self.value_size + 7 & ~7) * possible_cpus()


@dataclass(frozen=True)
class ProgramInfo:
    """`tag` is the kernel's hash of the instructions; lengths in bytes."""

    id: int
    type: int
    tag: str
    name: str
    xlated_length: int
    jited_length: int
    verified_instructions: int
    run_time_ns: int
    run_count: int


def _info(fd: int, info: ct.Structure, what: str) -> None:
    length = ct.c_uint32(ct.sizeof(info))
    _checked(_c().bpf_obj_get_info_by_fd(fd, ct.addressof(info), ct.addressof(length)), what)


def map_info(fd: int) -> MapInfo:
    info = _MapInfo()
    _info(fd, info, "asking for a map's description")
    values = (info.type, info.id, info.key_size, info.value_size, info.max_entries, info.flags)
    return MapInfo(*values, name=info.name.decode())


def prog_info(fd: int) -> ProgramInfo:
    info = _ProgramInfo()
    _info(fd, info, "asking for a program's description")
    return ProgramInfo(
        id=info.id,
        type=info.type,
        tag=bytes(info.tag).hex(),
        name=info.name.decode(),
        xlated_length=info.xlated_length,
        jited_length=info.jited_length,
        verified_instructions=info.verified_instructions,
        run_time_ns=info.run_time_ns,
        run_count=info.run_count,
    )


def prog_fd(program_id: int) -> int:
    """A descriptor of a loaded program; ENOENT when it is gone. Needs CAP_SYS_ADMIN."""
    return _checked(_c().bpf_prog_get_fd_by_id(program_id), f"opening program {program_id}")


def xdp_prog_load(name: str, instructions: bytes) -> int:
    """Load an XDP program written as instructions (struct bpf_insn, 8 bytes each): no compiler."""
    return _checked(
        _c().bpf_prog_load(
            BPF_PROG_TYPE_XDP, name.encode(), b"GPL", instructions, len(instructions) // 8, None
        ),
        f"loading the program '{name}'",
    )


# Entries


def lookup(fd: int, key: bytes, size: int) -> bytes | None:
    """The value, or None. `size` must be the map's `value_bytes`: the kernel writes that much."""
    value = ct.create_string_buffer(size)
    result = _c().bpf_map_lookup_elem(fd, key, value)
    if result == -errno.ENOENT:
        return None
    _checked(result, "reading an entry")
    return value.raw


def update(fd: int, key: bytes, value: bytes, flags: int = Update.ANY) -> None:
    """Write an entry; E2BIG or ENOSPC when the map is full. `value` must be `value_bytes` long."""
    _checked(_c().bpf_map_update_elem(fd, key, value, flags), "writing an entry")


def delete(fd: int, key: bytes) -> bool:
    """Whether there was such an entry."""
    result = _c().bpf_map_delete_elem(fd, key)
    if result == -errno.ENOENT:
        return False
    _checked(result, "deleting an entry")
    return True


def update_batch(fd: int, keys: int, values: int, count: int) -> None:
    """Write `count` entries from two packed arrays at those addresses."""
    done = ct.c_uint32(count)
    options = _BatchOptions()
    result = _c().bpf_map_update_batch(fd, keys, values, ct.addressof(done), ct.addressof(options))
    _checked(result, f"writing {count} entries (stopped after {done.value})")


def delete_batch(fd: int, keys: int, count: int) -> int:
    """Delete entries until one of them is missing; how many were deleted."""
    done = ct.c_uint32(count)
    options = _BatchOptions()
    result = _c().bpf_map_delete_batch(fd, keys, ct.addressof(done), ct.addressof(options))
    if result != -errno.ENOENT:
        _checked(result, f"deleting {count} entries (stopped after {done.value})")
    return done.value


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
        result = _c().bpf_map_lookup_batch(
            fd, start, token, keys, values, ct.addressof(count), ct.addressof(options)
        )
        if result != -errno.ENOENT:
            _checked(result, f"reading entries, {capacity} at a time")
        if count.value:
            yield count.value
        if result == -errno.ENOENT:
            return
        start = token


# XDP


class XdpState(NamedTuple):
    """`program_id` 0: none attached. `native` and `generic` are the ids by mode."""

    program_id: int
    mode: XdpMode
    native: int
    generic: int


def xdp_query(ifindex: int) -> XdpState:
    options = _QueryOptions()
    _checked(
        _c().bpf_xdp_query(ifindex, 0, ct.addressof(options)),
        f"asking interface {ifindex} for its XDP program",
    )
    native, generic = options.native, options.generic
    return XdpState(options.program or native or generic, XdpMode(options.mode), native, generic)


def xdp_attach(ifindex: int, fd: int, flags: int, old_fd: int | None = None) -> None:
    """Attach a program; with `old_fd` only in place of exactly that program (EEXIST otherwise)."""
    _xdp("bpf_xdp_attach", (ifindex, fd, flags), old_fd, f"attaching to interface {ifindex}")


def xdp_detach(ifindex: int, flags: int, old_fd: int | None = None) -> None:
    """Detach; with `old_fd` only exactly that program (EEXIST otherwise)."""
    _xdp("bpf_xdp_detach", (ifindex, flags), old_fd, f"detaching from interface {ifindex}")


def _xdp(function: str, arguments: tuple[int, ...], old_fd: int | None, what: str) -> None:
    library = _library()
    library.messages.clear()
    options = _AttachOptions(old_prog_fd=old_fd or 0)
    result = getattr(library.c, function)(*arguments, ct.addressof(options))
    if result < 0 and library.messages:
        what += f" ({'; '.join(library.messages)})"
    _checked(result, what)


class RunResult(NamedTuple):
    """`frame`: as the program left it (empty for live frames); `nanoseconds`: the mean of one run."""

    verdict: int
    frame: bytes
    nanoseconds: int


def prog_test_run(
    fd: int, frame: bytes, ingress_ifindex: int = 0, rx_queue: int = 0, repeat: int = 1, live: bool = False
) -> RunResult:
    """Run an XDP program on a frame of 14 to about 4,000 bytes.

    The interface must exist in this network namespace. With `repeat` neither frame nor maps are restored
    between runs. `live`: verdicts happen, the frames really leave (BPF_F_TEST_XDP_LIVE_FRAMES).
    """
    data_in = ct.create_string_buffer(frame, len(frame))
    data_out = ct.create_string_buffer(max(TEST_FRAME_ROOM, len(frame) + 512))
    context = struct.pack("=6I", 0, len(frame), 0, ingress_ifindex, rx_queue, 0)
    context_in = ct.create_string_buffer(context, len(context))
    options = _TestRunOptions(repeat=repeat)
    options.data_in, options.data_size_in = ct.addressof(data_in), len(frame)
    options.ctx_in, options.ctx_size_in = ct.addressof(context_in), len(context)
    if live:
        options.flags, options.batch_size = TEST_RUN_LIVE_FRAMES, LIVE_BATCH
    else:
        options.data_out, options.data_size_out = ct.addressof(data_out), len(data_out)
    _checked(
        _c().bpf_prog_test_run_opts(fd, ct.addressof(options)), f"test-running a frame of {len(frame)} bytes"
    )
    return RunResult(options.retval, b"" if live else data_out.raw[: options.data_size_out], options.duration)
