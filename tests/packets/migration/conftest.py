# SPDX-License-Identifier: Apache-2.0
"""An instance, and the director that runs before its upgrade."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import tests.support.world as w
from tests.support.sizes import SMALL
from xdpdirector.loader import (
    attachment,
    compiler,
)
from xdpdirector.paths import InstancePaths


@pytest.fixture
def paths() -> Iterator[InstancePaths]:
    paths = InstancePaths(f"carrying-{os.getpid()}")
    yield paths
    attachment.unload(paths)


@pytest.fixture
def before(paths: InstancePaths) -> Iterator[w.World]:
    """The director that runs."""
    with w.World(paths, compiler.prepare_in_child(paths, SMALL)) as world:
        yield world
