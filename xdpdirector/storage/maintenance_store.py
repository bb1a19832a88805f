# SPDX-License-Identifier: Apache-2.0
"""Whether a director without a fleet is to leave for maintenance, in the state database. Knows SQL; no traffic."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from xdpdirector.errors import StoreError
from xdpdirector.state.maintenance import Order, Orders
from xdpdirector.storage.database import Database


class SqliteOrders:
    """A `xdpdirector.state.maintenance.OrderStore` of the director called `name`: it knows no others.
    `database`: the one that can be written now, or a StoreError; `xdpdirector.storage.store` makes its table."""

    def __init__(self, database: Callable[[], Database], name: str) -> None:
        self._database, self._name = database, name

    def load(self) -> Orders:
        database = self._database()
        row = database.row("SELECT author, reason, since FROM maintenance")
        if row is None:
            return {}
        try:
            return {self._name: Order(row[0], row[1], datetime.fromisoformat(row[2]))}
        except ValueError as error:
            raise StoreError(f"the table maintenance in {database.path} cannot be read: {error}") from error

    def refresh(self) -> None:
        """Nobody else writes it."""

    def keep(self, name: str, order: Order | None) -> None:
        database = self._database()
        with database.transaction():
            database.write("DELETE FROM maintenance")
            if order:
                database.write(
                    "INSERT INTO maintenance (author, reason, since) VALUES (?, ?, ?)",
                    (order.author, order.reason, order.since.isoformat()),
                )
