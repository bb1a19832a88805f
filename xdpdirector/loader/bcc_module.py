# SPDX-License-Identifier: Apache-2.0
"""The packet program as BCC (BPF Compiler Collection) compiles it. The only user of bcc.

Importing this module is cheap; `find()` loads LLVM. Knows nothing of what becomes of the functions.
"""

from __future__ import annotations

import ctypes as ct
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xdpdirector import libbpf
from xdpdirector.errors import BccMissingError, LoaderError
from xdpdirector.loader import compile_cache, compile_errors, source, struct_layout
from xdpdirector.loader.build import Build
from xdpdirector.loader.compile_cache import Compiled

ENTRY = "director"
DEBUG_SOURCE = 8  # makes BCC print a disassembly

_ADVICE = "install it with `apt install python3-bpfcc`"


def find() -> Any:
    """The module bcc, or BccMissingError with instructions."""
    spec = importlib.util.find_spec("bcc")
    if spec is None:
        raise BccMissingError(
            f"the Python package bcc (BPF Compiler Collection) is missing for {sys.executable}: {_ADVICE}; a "
            "virtual environment must be made with `/usr/bin/python3 -m venv --system-site-packages`"
        )
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if not any((place / "libbcc.py").is_file() for place in places):
        raise BccMissingError(
            f"the package bcc in {', '.join(map(str, places)) or spec.origin} is not the BPF Compiler "
            f"Collection but an unrelated one from PyPI: run `{sys.executable} -m pip uninstall bcc`, and {_ADVICE}"
        )
    try:
        import bcc
    except (ImportError, OSError) as error:
        raise BccMissingError(f"the package bcc cannot be used ({error}): {_ADVICE}") from error
    return bcc


class Module:
    """The program as BCC compiled it; its maps are created and pinned. LoaderError with file and line.

    BCC cannot load with flags (BPF_F_XDP_HAS_FRAGS), so it loads only what the kernel has refused, for the
    verifier's log: loading without the flag would make `stages` a map for programs without it.
    """

    def __init__(self, bcc: Any, build: Build, tree: Path) -> None:
        self._bcc, self._build, self._tree = bcc, build, tree
        with self._explained():
            text = source.pinpointed(build.text, build.path.parent)
            self._module = bcc.BPF(text=text, cflags=build.flags)
        count = bcc.lib.bpf_num_functions(self._module.module)
        names = (bcc.lib.bpf_function_name(self._module.module, number) for number in range(count))
        self._names = [name.decode() for name in names]
        if ENTRY not in self._names:
            found = ", ".join(self._names) or "none"
            raise LoaderError(f"{build.path} has no function '{ENTRY}', only: {found}")

    def compiled(self) -> Compiled:
        """Its functions, and its maps as layout.json has them."""
        bcc, module = self._bcc, self._module
        maps = _maps(bcc, module)
        return compile_cache.compiled(
            str(bcc.__version__),
            maps,
            {name: bcc.lib.bpf_table_fd(module.module, name.encode()) for name in maps},
            {name: module.dump_func(name.encode()) for name in self._names},
        )

    def load(self, name: str, instructions: bytes) -> int:
        """A descriptor of the loaded function."""
        try:
            return libbpf.xdp_prog_load(name, instructions, self._build.has_frags)
        except OSError:
            with self._explained():
                self._module.load_func(name.encode(), self._bcc.BPF.XDP)
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise the error that BCC's output explains."""
        build, tree = self._build, self._tree
        with tempfile.TemporaryFile() as log:
            try:
                with _environment("BCC_KERNEL_SOURCE", str(tree)), _stderr_into(log.fileno()):
                    yield
            except Exception as error:  # BCC raises nothing more precise
                log.seek(0)
                said = log.read().decode(errors="replace")
                place = _place(self._bcc, build, tree, compile_errors.stopped_at(str(error), said))
                raise compile_errors.explained(str(error), said, build.path.parent, place) from error


def _place(bcc: Any, build: Build, tree: Path, stop: tuple[str, int] | None) -> str:
    """File and line of an instruction, from another compilation; None on failure, so that the original error
    is kept."""
    if not stop:
        return ""
    with tempfile.TemporaryFile() as log:
        with suppress(Exception), _environment("BCC_KERNEL_SOURCE", str(tree)), _stderr_into(log.fileno()):
            bcc.BPF(text=source.numbered(build.text), cflags=build.flags, debug=DEBUG_SOURCE)
        log.seek(0)
        index = compile_errors.source_line(log.read().decode(errors="replace"), *stop)
    if index is None:
        return ""
    line = source.lines(build.text)[index]
    return f"{line.name}:{line.number}"


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        os.environ.update({name: before} if before is not None else {})


@contextmanager
def _stderr_into(fd: int) -> Iterator[None]:
    """Redirect stderr, where LLVM and libbcc print errors."""
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def _maps(bcc: Any, module: Any) -> dict[str, Any]:
    """All maps for layout.json."""
    lib, handle = bcc.lib, module.module
    lib.bpf_table_name.restype, lib.bpf_table_name.argtypes = ct.c_char_p, (ct.c_void_p, ct.c_size_t)
    lib.bpf_table_key_size_id.argtypes = lib.bpf_table_leaf_size_id.argtypes = (ct.c_void_p, ct.c_size_t)
    lib.bpf_table_key_size_id.restype = lib.bpf_table_leaf_size_id.restype = ct.c_size_t
    maps = {}
    for number in range(lib.bpf_num_tables(handle)):
        name = lib.bpf_table_name(handle, number)
        maps[name.decode()] = {
            "type": lib.bpf_table_type_id(handle, number),
            "key_size": lib.bpf_table_key_size_id(handle, number),
            "value_size": lib.bpf_table_leaf_size_id(handle, number),
            "max_entries": lib.bpf_table_max_entries_id(handle, number),
            "flags": lib.bpf_table_flags_id(handle, number),
            "key": _shape(bcc, lib.bpf_table_key_desc(handle, name)),
            "value": _shape(bcc, lib.bpf_table_leaf_desc(handle, name)),
        }
    return maps


def _shape(bcc: Any, description: bytes) -> dict[str, Any]:
    return struct_layout.of(bcc.BPF._decode_table_type(json.loads(description)))
