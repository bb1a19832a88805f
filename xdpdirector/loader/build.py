# SPDX-License-Identifier: Apache-2.0
"""What would be loaded for an instance, and whether just that is loaded already. Needs no compiler."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from xdpdirector import libbpf
from xdpdirector.loader import bpffs, layout, source
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths

STAGES_APART = 32  # the map `stages` has room for 256 programs
EXPLAINING = 16  # how far behind those of the program the stages of the one that explains are
RDONLY_PROG = 1 << 7  # BPF_F_RDONLY_PROG: the kernel adds it to a devmap by itself

_COMPARED = ("type", "key_size", "value_size", "max_entries")


@dataclass(frozen=True)
class Build:
    """One thing to compile; its files are read once."""

    paths: InstancePaths
    sizes: Sizes
    path: Path
    explains: bool = False
    """Not the program that carries traffic, but the same one for explanations (bpf/explain.h)."""

    @cached_property
    def text(self) -> str:
        return source.inline(self.path)

    @cached_property
    def layout_digest(self) -> str:
        return source.layout_digest(self.path.parent, self.sizes)

    @property
    def program_digest(self) -> str:
        return source.program_digest(self.text, self.flags)

    @property
    def pins(self) -> Path:
        """Maps of another layout get another directory."""
        return self.paths.pins / f"{bpffs.MAPS}{self.layout_digest[:12]}"

    @property
    def stages_at(self) -> int:
        """The program's place in the map `stages`: another one than its predecessor's, by its text."""
        place = sha256(self.text.encode()).digest()[0] * STAGES_APART
        return place + EXPLAINING if self.explains else place

    @property
    def flags(self) -> list[str]:
        sizes = [f"-DMAX_{name.upper()}={value}" for name, value in self.sizes.model_dump().items()]
        places = [f"-DSTAGES_AT={self.stages_at}", f'-DPIN_DIR="{self.pins}/"']
        return [*sizes, *places, f"-DDRY_RUN={int(self.explains)}"]


def current(paths: InstancePaths, sizes: Sizes, program: Path | None = None) -> Loaded | None:
    """What is loaded, when it is just what the loader would load again; None otherwise."""
    loaded = layout.read(paths)
    build = Build(paths, sizes, program or source.program())
    if not loaded or loaded.program_digest != build.program_digest or loaded.pins != build.pins:
        return None
    try:
        with libbpf.opened(loaded.program) as fd:
            same = libbpf.prog_info(fd).id == loaded.program_id
        for name, shape in loaded.maps.items():
            with libbpf.opened(loaded.pins / name) as fd:
                same = same and not differences(libbpf.map_info(fd), shape)
    except FileNotFoundError:
        return None
    return loaded if same else None


def running(paths: InstancePaths) -> Loaded | None:
    """What was loaded last; also by a release that kept layout.json where it must not be trusted, when the kernel
    says the same of each map."""
    found = layout.read(paths)
    if found is None and (former := layout.read_former(paths)) and _is_true(former):
        return former
    return found


def _is_true(loaded: Loaded) -> bool:
    try:
        for name, declared in loaded.maps.items():
            if Path(name).name != name:
                return False
            with libbpf.opened(loaded.pins / name) as fd:
                info = libbpf.map_info(fd)
            shapes = ((declared["key"], info.key_size), (declared["value"], info.value_size))
            if differences(info, declared) or not all(_fits(shape, size) for shape, size in shapes):
                return False
    except (OSError, KeyError, TypeError, ValueError):
        return False
    return True


def _fits(shape: dict[str, Any], size: int) -> bool:
    """Whether who reads by that shape reads just as many octets as the kernel has; a ring buffer has none."""
    if not size:
        return True
    return bool(shape["size"] == size and ("fields" in shape or int(shape["type"][1:]) == 8 * size))


def differences(found: libbpf.MapInfo, declared: dict[str, Any]) -> str:
    """Where a map is not what layout.json, or the source, says; empty when it is."""
    flags = found.flags & ~RDONLY_PROG if found.type == libbpf.MapType.DEVMAP else found.flags
    pairs = {name: (getattr(found, name), declared[name]) for name in _COMPARED}
    pairs["flags"] = (flags, declared["flags"])
    return ", ".join(
        f"{name} {is_} instead of {ought}" for name, (is_, ought) in pairs.items() if is_ != ought
    )
