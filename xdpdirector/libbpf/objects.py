# SPDX-License-Identifier: Apache-2.0
"""Pinned objects, and what the kernel says of a map or program."""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xdpdirector.libbpf.constants import PER_CPU_TYPES
from xdpdirector.libbpf.library import Options, checked, fields, functions, possible_cpus

NAME = 15  # octets of an object's name that the kernel keeps


class _MapInfo(ct.Structure):
    """struct bpf_map_info: the kernel fills as much as it is given room for."""

    _fields_ = fields(
        "u32 type id key_size value_size max_entries flags; name name; u32 ifindex btf_vmlinux_value_type_id;"
        "u64 netns_dev netns_ino; u32 btf_id btf_key_type_id btf_value_type_id"
    )


class _BtfInfo(ct.Structure):
    """struct bpf_btf_info, up to `id`."""

    _fields_ = fields("u64 btf; u32 btf_size id")


class _ProgramInfo(ct.Structure):
    """struct bpf_prog_info, up to `verified_instructions` (Linux 5.16; stays 0 before)."""

    _fields_ = fields(
        "u32 type id; tag tag; u32 jited_length xlated_length; u64 jited_at xlated_at load_time;"
        "u32 created_by_uid map_count; u64 map_ids; name name; u32 ifindex gpl; u64 netns_dev netns_ino;"
        "u32 ksym_count function_count; u64 ksyms function_lengths; u32 btf_id function_info_size;"
        "u64 function_info; u32 function_info_count line_info_count; u64 line_info jited_line_info;"
        "u32 jited_line_info_count line_info_size jited_line_info_size tag_count; u64 tags;"
        "u64 run_time_ns run_count recursion_misses; u32 verified_instructions attach_btf_object attach_btf"
    )


class _CreateOptions(Options):
    _fields_ = fields(
        "size_t sz; u32 btf_fd btf_key_type_id btf_value_type_id btf_vmlinux_value_type_id inner_map_fd map_flags;"
        "u64 map_extra; u32 numa_node map_ifindex"
    )


def map_create(
    name: str,
    kind: int,
    key_size: int,
    value_size: int,
    max_entries: int,
    flags: int,
    types: tuple[int, int, int] | None = None,
) -> int:
    """A descriptor of a new map. `types`: a descriptor of BTF, and the ids of key and value in it."""
    options = _CreateOptions(map_flags=flags)
    if types:
        options.btf_fd, options.btf_key_type_id, options.btf_value_type_id = types
    return checked(
        functions().bpf_map_create(
            kind, name.encode()[:NAME], key_size, value_size, max_entries, ct.addressof(options)
        ),
        f"making the map '{name}'",
    )


def obj_get(path: str | Path) -> int:
    """A descriptor of the map or program pinned there."""
    return checked(functions().bpf_obj_get(os.fsencode(path)), "opening a pinned object", os.fspath(path))


def obj_pin(fd: int, path: str | Path) -> None:
    """Keep the object alive under that name on bpffs; EEXIST when the name is taken."""
    checked(functions().bpf_obj_pin(fd, os.fsencode(path)), "pinning", os.fspath(path))


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
    btf: tuple[int, int, int] = (0, 0, 0)
    """The ids of its BTF (0: none), and of key and value in that."""

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
    checked(functions().bpf_obj_get_info_by_fd(fd, ct.addressof(info), ct.addressof(length)), what)


def map_info(fd: int) -> MapInfo:
    info = _MapInfo()
    _info(fd, info, "asking for a map's description")
    values = (info.type, info.id, info.key_size, info.value_size, info.max_entries, info.flags)
    btf = (info.btf_id, info.btf_key_type_id, info.btf_value_type_id)
    return MapInfo(*values, name=info.name.decode(), btf=btf)


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


def btf_data(btf_id: int) -> bytes:
    """BTF as it was loaded (Documentation/bpf/btf.rst). Needs CAP_SYS_ADMIN."""
    fd = checked(functions().bpf_btf_get_fd_by_id(btf_id), f"opening BTF {btf_id}")
    try:
        info = _BtfInfo()
        _info(fd, info, "asking for the length of BTF")
        data = ct.create_string_buffer(info.btf_size)
        info.btf = ct.addressof(data)
        _info(fd, info, "reading BTF")
        return data.raw
    finally:
        os.close(fd)


def btf_load(data: bytes) -> int:
    """A descriptor of new BTF."""
    return checked(functions().bpf_btf_load(data, len(data), None), "loading BTF")


def prog_fd(program_id: int) -> int:
    """A descriptor of a loaded program; ENOENT when it is gone. Needs CAP_SYS_ADMIN."""
    return checked(functions().bpf_prog_get_fd_by_id(program_id), f"opening program {program_id}")
