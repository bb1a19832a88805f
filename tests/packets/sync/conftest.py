# SPDX-License-Identifier: Apache-2.0
"""Two directors whose numbers for services and backends differ."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import tests.support.world as w
from tests.support.sizes import SMALL
from tests.support.synced_directors import TWO, Director
from xdpdirector.loader import attachment, compiler
from xdpdirector.paths import InstancePaths
from xdpdirector.sync.merger import Merger
from xdpdirector.sync.names import NameReader
from xdpdirector.sync.scanner import Scanner


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[w.World]]:
    paths = [InstancePaths(f"sync{number}-{os.getpid()}") for number in (1, 2)]
    try:
        with (
            w.World(paths[0], compiler.prepare_in_child(paths[0], SMALL)) as one,
            w.World(paths[1], compiler.prepare_in_child(paths[1], SMALL)) as two,
        ):
            yield [one, two]
    finally:
        for each in paths:
            attachment.unload(each)


@pytest.fixture
def pair(worlds: list[w.World]) -> Iterator[tuple[Director, Director]]:
    made = []
    for world in worlds:
        world.empty()
        names = NameReader(world.tables)
        scanner = Scanner(world.tables, world.clock, names)
        merger = Merger(world.tables, scanner, world.tables.loaded.program.with_name("merge"))
        made.append(Director(world, names, scanner, merger))
    # Their numbers differ.
    worlds[1].apply(w.service(name="other", listeners=(), members=(w.backend("web3"), w.backend("web2"))))
    for world in worlds:
        world.apply(w.service(members=TWO))
    yield made[0], made[1]
    for each in made:
        each.merger.close()
        each.scanner.close()
