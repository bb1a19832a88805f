# SPDX-License-Identifier: Apache-2.0
"""Cache of compiled programs, in the directory that XDPDIRECTOR_COMPILE_CACHE names; disabled without it.

For callers that load the same program repeatedly, such as tests: compiling takes seconds, loading a fraction
of one. An entry was compiled from the same text and flags by the same BCC with the same headers, and the
kernel verifies it as usual; it has no BTF. Whoever can write to the directory controls what root loads.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from xdpdirector import libbpf
from xdpdirector.loader.build import Build
from xdpdirector.loader.kernel_headers import SYSTEM_INCLUDE

VARIABLE = "XDPDIRECTOR_COMPILE_CACHE"
MOST = 100  # programs in the cache

_INSTRUCTION = struct.Struct("<BBhi")  # opcode, registers, offset, immediate
_LOAD_WIDE = 0x18  # BPF_LD | BPF_IMM | BPF_DW
_MAP_FD = 1  # BPF_PSEUDO_MAP_FD, as source register of the above


@dataclass(frozen=True)
class Compiled:
    """`maps`: as in layout.json. `functions`: with the maps' positions in name order instead of descriptors."""

    bcc: str
    maps: dict[str, Any]
    functions: dict[str, bytes]

    @contextmanager
    def loaded(self, pins: Path) -> Iterator[dict[str, int]]:
        """Load the functions; descriptors are valid within the block. Maps that are not pinned yet are
        created."""
        with ExitStack() as stack:
            maps = []
            for name, declared in sorted(self.maps.items()):
                maps.append(_map(pins / name, declared))
                stack.callback(os.close, maps[-1])
            functions = {}
            for name, instructions in self.functions.items():
                text = _relocated(instructions, dict(enumerate(maps)))
                functions[name] = libbpf.xdp_prog_load(name, text)
                stack.callback(os.close, functions[name])
            yield functions


def find(build: Build) -> Compiled | None:
    if (path := _path(build)) is None:
        return None
    try:
        document = json.loads(path.read_text())
        functions = {name: base64.b64decode(text) for name, text in document["functions"].items()}
        os.utime(path)
        return Compiled(document["bcc"], document["maps"], functions)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(
    build: Build,
    bcc: str,
    maps: dict[str, Any],
    descriptors: Mapping[str, int],
    functions: Mapping[str, bytes],
) -> None:
    """Store a compilation. `descriptors`: of the maps, as in the functions' instructions. Failures are
    ignored."""
    if (path := _path(build)) is None:
        return
    places = {descriptors[name]: place for place, name in enumerate(sorted(maps))}
    texts = {name: _relocated(text, places) for name, text in functions.items()}
    document = {
        "bcc": bcc,
        "maps": maps,
        "functions": {name: base64.b64encode(text).decode() for name, text in texts.items()},
    }
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(document))
        unfinished.replace(path)
        latest_first = sorted(path.parent.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
        for stale in latest_first[MOST:]:
            stale.unlink(missing_ok=True)


def _path(build: Build) -> Path | None:
    directory, compiler = os.environ.get(VARIABLE), importlib.util.find_spec("bcc")
    if not directory or compiler is None or compiler.origin is None or sys.byteorder != "little":
        return None
    flags = [flag for flag in build.flags if "PIN_DIR" not in flag]  # says where maps are found, not what
    tools = [Path(compiler.origin), SYSTEM_INCLUDE / "linux/version.h"]
    made_by = [(str(path), path.stat().st_mtime_ns) for path in tools if path.exists()]
    machine = os.uname()
    key = json.dumps([build.text, flags, made_by, machine.release, machine.version, machine.machine])
    return Path(directory) / f"{sha256(key.encode()).hexdigest()}.json"


def _map(pin: Path, declared: dict[str, Any]) -> int:
    """A descriptor of the map that is pinned there, created if there is none."""
    with suppress(FileNotFoundError):
        return libbpf.obj_get(pin)
    fd = libbpf.map_create(
        pin.name,
        *(declared[key] for key in ("type", "key_size", "value_size", "max_entries", "flags")),
    )
    try:
        libbpf.obj_pin(fd, pin)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _relocated(instructions: bytes, places: Mapping[int, int]) -> bytes:
    """Replace the number in each map reference."""
    relocated = bytearray(instructions)
    wide = False  # the second half of a wide instruction is not an instruction
    for at in range(0, len(instructions), _INSTRUCTION.size):
        opcode, registers, offset, immediate = _INSTRUCTION.unpack_from(instructions, at)
        if not wide and opcode == _LOAD_WIDE and registers >> 4 == _MAP_FD:
            _INSTRUCTION.pack_into(relocated, at, opcode, registers, offset, places[immediate])
        wide = not wide and opcode == _LOAD_WIDE
    return bytes(relocated)
