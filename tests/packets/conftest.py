# SPDX-License-Identifier: Apache-2.0
"""One data plane for all packet tests, emptied between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import World, worlds
from tests.support.xdp_driver import Driver
from xdpdirector.model import Sizes

SIZES = Sizes(
    services=32,
    backends=96,
    listeners=64,
    connections=4096,
    connections6=4096,
    ring_slots=1 << 16,
    denied=64,
    clients=1024,
    sources=1024,
)
LARGE = Sizes(connections=1 << 18, connections6=1 << 17, ring_slots=1 << 17)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.root)


@pytest.fixture(scope="session")
def loaded_world() -> Iterator[World]:
    with worlds("packets", 1, SIZES) as [world]:
        yield world


@pytest.fixture
def world(loaded_world: World) -> World:
    loaded_world.empty()
    return loaded_world


@pytest.fixture(scope="session")
def large_world() -> Iterator[World]:
    """With room for records of 100,000 flows."""
    with worlds("large", 1, LARGE) as [world]:
        yield world


@pytest.fixture(scope="session")
def driver(large_world: World) -> Iterator[Driver]:
    with Driver(large_world) as driver:
        yield driver
