# SPDX-License-Identifier: Apache-2.0
"""Fixtures that tests of several packages share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.etcd import Etcd
    from xdpdirector.model.store import StoreSpec

_numbers = itertools.count()


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One process for the tests of a module, which take a prefix each."""
    from tests.support.etcd import Etcd

    with Etcd(tmp_path_factory.mktemp("etcd")) as running:
        yield running


@pytest.fixture
def spec(etcd: Etcd) -> StoreSpec:
    """Where a fleet of its own is stored, for each test another."""
    return etcd.spec(prefix=f"/xdpdirector/fleet{next(_numbers)}")
