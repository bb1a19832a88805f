# SPDX-License-Identifier: Apache-2.0
"""Two directors whose numbers for services and backends differ."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tests.support.world as w
from tests.support.sizes import SMALL
from tests.support.synced_directors import TWO, Director
from xdpdirector.sync.merger import Merger
from xdpdirector.sync.names import NameReader
from xdpdirector.sync.scanner import Scanner


@pytest.fixture(scope="module")
def worlds() -> Iterator[list[w.World]]:
    with w.worlds("sync", 2, SMALL) as found:
        yield found


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
