# SPDX-License-Identifier: Apache-2.0
"""Fixtures that tests of several packages share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.etcd import Etcd


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """One process for the tests of a module, which take a prefix each."""
    from tests.support.etcd import Etcd

    with Etcd(tmp_path_factory.mktemp("etcd")) as running:
        yield running
