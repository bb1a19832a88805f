# SPDX-License-Identifier: Apache-2.0
"""What would be loaded for an instance, and whether exactly that is loaded already. Needs no compiler."""

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
from xdpdirector.system import memory_order

STAGES_APART = 64  # the map `stages` has room for 256 programs
EXPLAINING = 32  # offset of the explaining program's stages from those of the program
RDONLY_PROG = 1 << 7  # BPF_F_RDONLY_PROG: the kernel sets it on a devmap

_COMPARED = ("type", "key_size", "value_size", "max_entries")


@dataclass(frozen=True)
class Build:
    """One compilation; its files are read once."""

    paths: InstancePaths
    sizes: Sizes
    path: Path
    explains: bool = False
    """Build the explaining program (bpf/explain.h) instead of the one for traffic."""
    has_frags: bool = False
    """For frames in several buffers; see `attachment.needs_frags`."""
    keeps_order: bool = memory_order.is_kept()
    """The processors see stores in their order; else the program sees to it (bpf/memory_order.h)."""

    @cached_property
    def text(self) -> str:
        return source.inline(self.path)

    @cached_property
    def layout_digest(self) -> str:
        return source.layout_digest(self.path.parent, self.sizes, self.has_frags)

    @property
    def program_digest(self) -> str:
        return source.program_digest(self.text, self.flags)

    @property
    def pins(self) -> Path:
        """Another map layout has another directory."""
        return self.paths.pins / f"{bpffs.MAPS}{self.layout_digest[:12]}"

    @property
    def stages_at(self) -> int:
        """The program's first index in the map `stages`, derived from its text, so that it differs from its
        predecessor's."""
        place = sha256(self.text.encode()).digest()[0] * STAGES_APART
        return place + EXPLAINING if self.explains else place

    @property
    def flags(self) -> list[str]:
        sizes = [f"-DMAX_{name.upper()}={value}" for name, value in self.sizes.model_dump().items()]
        places = [f"-DSTAGES_AT={self.stages_at}", f'-DPIN_DIR="{self.pins}/"']
        order = [] if self.keeps_order else ["-DWEAK_ORDER"]
        return [*sizes, *places, f"-DDRY_RUN={int(self.explains)}", *order]


def current(paths: InstancePaths, sizes: Sizes, program: Path | None = None) -> Loaded | None:
    """The loaded program, if the loader would load exactly that again; else None. With or without frags."""
    loaded = layout.read(paths)
    has_frags = bool(loaded and loaded.has_frags)
    build = Build(paths, sizes, program or source.program(), has_frags=has_frags)
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
    """The program loaded last. Accepts a layout.json of an earlier release, in a directory that is not
    trusted, if the kernel's maps agree with it."""
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
    """True if the shape has as many bytes as the kernel's map; a ring buffer has none."""
    if not size:
        return True
    return bool(shape["size"] == size and ("fields" in shape or int(shape["type"][1:]) == 8 * size))


def differences(found: libbpf.MapInfo, declared: dict[str, Any]) -> str:
    """Differences of a map from layout.json or the source; empty if there are none."""
    flags = found.flags & ~RDONLY_PROG if found.type == libbpf.MapType.DEVMAP else found.flags
    pairs = {name: (getattr(found, name), declared[name]) for name in _COMPARED}
    pairs["flags"] = (flags, declared["flags"])
    return ", ".join(
        f"{name} {is_} instead of {ought}" for name, (is_, ought) in pairs.items() if is_ != ought
    )
