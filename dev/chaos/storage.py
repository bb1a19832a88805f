# SPDX-License-Identifier: Apache-2.0
"""What is done to a director's disk and databases, as `disturbances` has it for the rest."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from dev.chaos.lab import World
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import run

Steps = Iterator[str]
_BLOCK = 1 << 16


def full_disk(world: World, _arguments: dict[str, Any]) -> Steps:
    if not os.path.ismount(world.state):
        raise LabError(
            f"{world.state} is not the director's own disk any more, and this machine's is not filled"
        )
    filler = world.state / "filler"
    try:
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(_BLOCK))
        yield ""
    finally:
        filler.unlink()


def read_only_disk(world: World, _arguments: dict[str, Any]) -> Steps:
    """Linux makes it so only while nobody writes: the daemon dies and finds it so."""
    world.director.kill()
    run("mount", "-o", "remount,ro", str(world.state))
    try:
        world.director.start()
        yield ""
    finally:
        run("mount", "-o", "remount,rw", str(world.state))


def locked_database(world: World, _arguments: dict[str, Any]) -> Steps:
    """By a process that writes and does not end, such as a careless backup."""
    with closing(sqlite3.connect(world.director.paths.state, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield ""
        other.execute("ROLLBACK")


def damaged_access_database(world: World, _arguments: dict[str, Any]) -> Steps:
    """Found at a start."""
    world.director.kill()
    path = world.director.paths.access
    owner = path.stat()
    for found in path.parent.glob(f"{path.name}-*"):
        found.unlink()
    path.write_bytes(os.urandom(3 * _BLOCK))
    os.chown(path, owner.st_uid, owner.st_gid)
    world.director.start()
    yield ""
