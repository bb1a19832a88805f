# SPDX-License-Identifier: Apache-2.0
"""Programs with other maps, and flows through the one before and the one after an upgrade."""

from __future__ import annotations

import shutil
from pathlib import Path

import tests.support.world as w
from xdpdirector.loader import (
    compiler,
    source,
)
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths

FLOWS = range(1, 301)
TWO = (w.backend("web1"), w.backend("web2"))


def changed(directory: Path, *changes: tuple[str, str]) -> Path:
    """A program of whose headers some say other things; each change is in one of them or more."""
    program = Path(shutil.copytree(source.program().parent, directory / "bpf")) / source.program().name
    texts = {path: path.read_text() for path in program.parent.glob("*.[ch]")}
    for old, new in changes:
        assert any(old in text for text in texts.values())
        texts = {path: text.replace(old, new) for path, text in texts.items()}
    for path, text in texts.items():
        path.write_text(text)
    return program


def upgraded(paths: InstancePaths, sizes: Sizes, program: Path | None = None) -> Loaded:
    return compiler.prepare_in_child(paths, sizes, program)


def owners(world: w.World, frame: object) -> dict[int, str]:
    """Who has the running flows; a frame that is not forwarded to anybody fails here."""
    return {sport: w.owner(world.send(frame("PA", sport=sport))) for sport in FLOWS}  # type: ignore[operator]


def opened(world: w.World, frame: object) -> dict[int, str]:
    for sport in FLOWS:
        world.send(frame("S", sport=sport))  # type: ignore[operator]
    return owners(world, frame)


def running(world: w.World, sports: range) -> None:
    for sport in sports:
        world.send(w.tcp("S", sport=sport))
        world.send(w.tcp("A", sport=sport, ack=1))


def reset(world: w.World, sports: range) -> int:
    """How many of the running connections are answered with a RST."""
    return sum(world.send(w.tcp("PA", sport=sport, ack=1)).reason == "reject_unknown" for sport in sports)
