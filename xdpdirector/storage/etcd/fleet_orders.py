# SPDX-License-Identifier: Apache-2.0
"""Which directors of a fleet are to leave for maintenance, in etcd, with a copy in this director's file.

    NAME    [author, reason, since]

Knows orders; nothing of traffic.
"""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

from xdpdirector.errors import SupersededError
from xdpdirector.state.maintenance import Order, Orders
from xdpdirector.storage.etcd import documents
from xdpdirector.storage.etcd.fleet_store import FleetStore
from xdpdirector.storage.etcd.shared_table import TableState


class FleetOrders:
    """A `xdpdirector.state.maintenance.OrderStore`. Threads may use it."""

    def __init__(self, store: FleetStore) -> None:
        self._store, self._table = store, store.maintenance
        self._turn = threading.Lock()
        self._state: TableState | None = None
        """What was loaded last; `_orders` is what it says."""
        self._orders: Orders = {}

    def load(self) -> Orders:
        with self._turn:
            state = self._table.state
            if state is not self._state:
                self._orders = _orders(state.table()) if state else {}
                self._state = state
            return self._orders

    def refresh(self) -> None:
        self._store.look()
        self._store.refresh()

    def keep(self, name: str, order: Order | None) -> None:
        self._store.look()
        with self._turn:
            if self._table.state is not self._state:
                raise SupersededError("another director changed which directors are drained just now")
            said = None if order is None else [order.author, order.reason, order.since.isoformat()]
            self._table.change(self._state, {name: said})


def _orders(table: dict[str, Any]) -> Orders:
    """ForeignStoreError."""
    try:
        return {
            name: Order(str(author), str(reason), datetime.fromisoformat(since))
            for name, (author, reason, since) in table.items()
        }
    except (ValueError, TypeError) as error:
        raise documents.foreign("which directors are drained") from error
