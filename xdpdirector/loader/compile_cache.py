# SPDX-License-Identifier: Apache-2.0
"""Cache of compiled programs: compiling takes five seconds and 190 MB, loading what was compiled a fraction of one.

An entry was compiled from the same text and flags by the same BCC with the same headers, and the kernel verifies
it as usual. Its maps have BTF as the compiler's have; its programs have none. The directory is root's
(`paths.COMPILED`), or what XDPDIRECTOR_COMPILE_CACHE names; where that is empty, nothing is kept or found. Whoever
can write there controls what root loads, so a directory in which others can write is not used.

An image of another machine is built with XDPDIRECTOR_COMPILE_FOR, which names the kernel there as `uname -rv` does:
entries are then that kernel's.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import logging
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from xdpdirector import libbpf
from xdpdirector.loader import kernel_headers
from xdpdirector.loader.build import Build
from xdpdirector.paths import COMPILED

VARIABLE = "XDPDIRECTOR_COMPILE_CACHE"
FOR = "XDPDIRECTOR_COMPILE_FOR"
MOST = 16  # entries that are kept, unless the variable names the directory: then 100
MOST_NAMED = 100

log = logging.getLogger(__name__)

_FORMAT = 2  # of an entry
_INSTRUCTION = struct.Struct("<BBhi")  # opcode, registers, offset, immediate
_LOAD_WIDE = 0x18  # BPF_LD | BPF_IMM | BPF_DW
_MAP_FD = 1  # BPF_PSEUDO_MAP_FD, as source register of the above


@dataclass(frozen=True)
class Compiled:
    """`maps`: as in layout.json. `functions`: with the maps' positions in name order instead of descriptors.
    `btf`: BTF of the maps, empty if they have none. `types`: by map, the ids of key and value in it."""

    bcc: str
    maps: dict[str, Any]
    functions: dict[str, bytes]
    btf: bytes
    types: dict[str, list[int]]

    @contextmanager
    def loaded(
        self, pins: Path, load: Callable[[str, bytes], int] = libbpf.xdp_prog_load
    ) -> Iterator[dict[str, int]]:
        """Load the functions; descriptors are valid within the block. Maps that are not pinned yet are
        created."""
        with ExitStack() as stack:
            btf = 0
            if self.btf:
                btf = libbpf.btf_load(self.btf)
                stack.callback(os.close, btf)
            maps = []
            for name, declared in sorted(self.maps.items()):
                types = self.types.get(name)
                maps.append(_map(pins / name, declared, (btf, types[0], types[1]) if types else None))
                stack.callback(os.close, maps[-1])
            functions = {}
            for name, instructions in self.functions.items():
                text = _relocated(instructions, dict(enumerate(maps)))
                functions[name] = load(name, text)
                stack.callback(os.close, functions[name])
            yield functions

    def document(self) -> dict[str, Any]:
        return {
            "bcc": self.bcc,
            "maps": self.maps,
            "functions": {name: _encoded(text) for name, text in self.functions.items()},
            "btf": _encoded(self.btf),
            "types": self.types,
        }

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Compiled:
        functions = {name: base64.b64decode(text) for name, text in document["functions"].items()}
        btf = base64.b64decode(document["btf"])
        return cls(document["bcc"], document["maps"], functions, btf, document["types"])


def find(build: Build) -> Compiled | None:
    """The entry for this build; None if there is none, or it is damaged."""
    if (path := _path(build)) is None:
        return None
    try:
        digest, _, text = path.read_text().partition("\n")
        if digest != _digest(text):
            return None
        with suppress(OSError):  # a disk that is read-only
            os.utime(path)
        return Compiled.of_document(json.loads(text))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compiled(
    bcc: str, maps: dict[str, Any], descriptors: Mapping[str, int], functions: Mapping[str, bytes]
) -> Compiled:
    """Of what BCC has made. `descriptors`: of the maps, as in the functions' instructions."""
    places = {descriptors[name]: place for place, name in enumerate(sorted(maps))}
    texts = {name: _relocated(text, places) for name, text in functions.items()}
    return Compiled(bcc, maps, texts, *_btf(descriptors))


def keep(build: Build, made: Compiled) -> None:
    """Store a compilation. A failure is logged: the next load compiles again."""
    if (path := _path(build)) is None:
        return
    try:
        _write(path, made)
    except OSError as error:
        log.info("the compiled program is not kept in %s: %s", path.parent, error)


def _btf(descriptors: Mapping[str, int]) -> tuple[bytes, dict[str, list[int]]]:
    """The maps' BTF, and the ids of key and value of each map that has it."""
    ids = {name: libbpf.map_info(fd).btf for name, fd in descriptors.items()}
    newest = max((btf for btf, _, _ in ids.values()), default=0)
    if not newest:
        return b"", {}
    try:
        data = libbpf.btf_data(newest)
    except PermissionError:  # without CAP_SYS_ADMIN
        return b"", {}
    return data, {name: [key, value] for name, (btf, key, value) in ids.items() if btf == newest}


def _write(path: Path, compiled: Compiled) -> None:
    text = json.dumps(compiled.document())
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        unfinished.write_text(f"{_digest(text)}\n{text}")
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    latest_first = sorted(path.parent.glob("*.json"), key=lambda each: each.stat().st_mtime, reverse=True)
    for stale in latest_first[MOST_NAMED if os.environ.get(VARIABLE) else MOST :]:
        stale.unlink(missing_ok=True)


def _path(build: Build) -> Path | None:
    directory, compiler = _directory(), importlib.util.find_spec("bcc")
    if directory is None or compiler is None or compiler.origin is None or sys.byteorder != "little":
        return None
    flags = [flag for flag in build.flags if "PIN_DIR" not in flag]  # says where maps are found, not what
    tools = [Path(compiler.origin), kernel_headers.SYSTEM_INCLUDE / "linux/version.h"]
    made_by = [(str(path), path.stat().st_mtime_ns) for path in tools if path.exists()]
    key = [_FORMAT, build.text, flags, kernel_headers.STUBS, made_by, *_kernel()]
    return directory / f"{_digest(json.dumps(key))}.json"


def _kernel() -> tuple[str, str, str]:
    """Release, version and machine, as uname(2) has them, of the kernel that loads."""
    running = os.uname()
    release, _, version = os.environ.get(FOR, "").partition(" ")
    return (release or running.release, version or running.version, running.machine)


def _directory() -> Path | None:
    """Where entries are; None if nothing is to be kept, or others than root could change them."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    if os.geteuid():
        return None
    return COMPILED if _is_only_root_s(COMPILED) else None


def _is_only_root_s(directory: Path) -> bool:
    """True if only root can make or change files there; also for a directory that root has yet to make."""
    for path in (directory, *directory.parents):
        with suppress(FileNotFoundError):
            found = path.lstat()
            if (
                not stat.S_ISDIR(found.st_mode)
                or found.st_uid
                or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            ):
                log.warning("%s is not only root's to write: compiled programs are not kept there", path)
                return False
    return True


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _map(pin: Path, declared: dict[str, Any], types: tuple[int, int, int] | None) -> int:
    """A descriptor of the map that is pinned there, created if there is none."""
    with suppress(FileNotFoundError):
        return libbpf.obj_get(pin)
    fd = libbpf.map_create(
        pin.name,
        declared["type"],
        declared["key_size"],
        declared["value_size"],
        declared["max_entries"],
        declared["flags"],
        types,
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
