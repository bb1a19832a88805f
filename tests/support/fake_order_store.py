# SPDX-License-Identifier: Apache-2.0
"""Where it is kept which directors are to leave, in memory."""

from __future__ import annotations

from xdpdirector.errors import DirectorError
from xdpdirector.state.maintenance import Order, Orders


class FakeOrderStore:
    """Remembers; `broken` is raised by what is asked next."""

    def __init__(self) -> None:
        self.orders: Orders = {}
        self.broken: DirectorError | None = None

    def load(self) -> Orders:
        self._break()
        return self.orders

    def refresh(self) -> None:
        self._break()

    def keep(self, name: str, order: Order | None) -> None:
        self._break()
        others = {each: kept for each, kept in self.orders.items() if each != name}
        self.orders = others | ({name: order} if order else {})

    def _break(self) -> None:
        if self.broken:
            raise self.broken
