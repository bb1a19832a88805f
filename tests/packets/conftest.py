# SPDX-License-Identifier: Apache-2.0
"""One data plane for all packet tests, emptied between them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import World
from tests.support.xdp_driver import Driver
from xdpdirector.loader import attachment, compiler
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths

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
    paths = InstancePaths(f"packets-{os.getpid()}")
    try:
        with World(paths, compiler.prepare_in_child(paths, SIZES)) as world:
            yield world
    finally:
        attachment.unload(paths)


@pytest.fixture
def world(loaded_world: World) -> World:
    loaded_world.empty()
    return loaded_world


@pytest.fixture(scope="session")
def large_world() -> Iterator[World]:
    """With room for records of 100,000 flows."""
    paths = InstancePaths(f"large-{os.getpid()}")
    try:
        with World(paths, compiler.prepare_in_child(paths, LARGE)) as world:
            yield world
    finally:
        attachment.unload(paths)


@pytest.fixture(scope="session")
def driver(large_world: World) -> Iterator[Driver]:
    with Driver(large_world) as driver:
        yield driver
