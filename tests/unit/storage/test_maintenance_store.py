# SPDX-License-Identifier: Apache-2.0
"""Whether a director without a fleet is to leave, in its state database."""

from __future__ import annotations

from pathlib import Path

import pytest

from xdpdirector.errors import StoreError
from xdpdirector.model.status import utc_now
from xdpdirector.state.maintenance import Order
from xdpdirector.storage.maintenance_store import SqliteOrders
from xdpdirector.storage.store import FORMAT, MIRROR_FORMAT, Store

ORDER = Order("ann", "patches", utc_now())


def test_an_order_is_kept_until_it_is_taken_back(tmp_path: Path) -> None:
    with Store(tmp_path / "state.db") as store:
        orders = SqliteOrders(lambda: store.database, "d1")
        assert orders.load() == {}
        orders.keep("d1", ORDER)
    with Store(tmp_path / "state.db") as store:
        assert SqliteOrders(lambda: store.database, "d1").load() == {"d1": ORDER}
        assert SqliteOrders(lambda: store.database, "renamed").load() == {"renamed": ORDER}
        SqliteOrders(lambda: store.database, "renamed").keep("renamed", None)
    with Store(tmp_path / "state.db") as store:
        assert SqliteOrders(lambda: store.database, "d1").load() == {}


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with Store(tmp_path / "state.db") as store:
        store.database.write("INSERT INTO maintenance VALUES ('ann', '', 'yesterday')")
        with pytest.raises(StoreError, match="the table maintenance"):
            SqliteOrders(lambda: store.database, "d1").load()


def test_the_copy_of_a_fleets_state_has_the_steps_that_it_had() -> None:
    """A step in between would be taken for another one by files of before."""
    steps = len(MIRROR_FORMAT.migrations)
    assert "shared_heads" in MIRROR_FORMAT.migrations[5][0]
    assert steps == 7
    assert "maintenance" in FORMAT.migrations[5][0]
