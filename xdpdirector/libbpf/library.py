# SPDX-License-Identifier: Apache-2.0
"""The loaded library, the shape of its structs, and its errors."""

from __future__ import annotations

import ctypes as ct
import os
from collections import deque
from functools import cache
from typing import Any

from xdpdirector.errors import DataplaneError

SONAME = "libbpf.so.1"
WARNING = 0
EXTACK_PREFIX = "libbpf: Kernel error message: "
MAX_MESSAGES = 8


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


def fields(text: str) -> list[tuple[str, Any]]:
    """Fields of a struct from `TYPE name name ...; TYPE ...`."""
    groups = [group.split() for group in text.split(";")]
    return [(name, _C_TYPES[group[0]]) for group in groups for name in group[1:]]


class Options(ct.Structure):
    """libbpf's options start with their own size."""

    def __init__(self, **values: object) -> None:
        super().__init__(**values)
        self.sz: int = ct.sizeof(self)


_PRINT = ct.CFUNCTYPE(ct.c_int, ct.c_int, ct.c_char_p, ct.c_void_p)
_FD, _PTR, _U32, _TEXT = ct.c_int, ct.c_void_p, ct.c_uint32, ct.c_char_p
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "bpf_map_create": (ct.c_int, _TEXT, _U32, _U32, _U32, _PTR),
    "bpf_obj_get": (_TEXT,),
    "bpf_obj_pin": (_FD, _TEXT),
    "bpf_obj_get_info_by_fd": (_FD, _PTR, _PTR),
    "bpf_prog_get_fd_by_id": (_U32,),
    "bpf_btf_get_fd_by_id": (_U32,),
    "bpf_btf_load": (_PTR, ct.c_size_t, _PTR),
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


class Library:
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
def library() -> Library:
    return Library()


def functions() -> Any:
    return library().c


def checked(result: int, what: str, path: str | None = None) -> int:
    """libbpf 1.x answers -errno."""
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}", *([path] if path else []))
    return result


def possible_cpus() -> int:
    """Values that an entry of a per-CPU map has."""
    return checked(functions().libbpf_num_possible_cpus(), "counting the possible CPUs")
