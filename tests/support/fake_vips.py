# SPDX-License-Identifier: Apache-2.0
"""VIPs on no interface."""

from __future__ import annotations

from collections.abc import Iterable

from xdpdirector.errors import DataplaneError
from xdpdirector.model import Address


class FakeVips:
    """Remembers what was wanted, and how often; `refuse` makes `ensure` fail."""

    def __init__(self) -> None:
        self.wanted: frozenset[Address] = frozenset()
        self.ensured = 0
        self.elsewhere: set[Address] = set()
        self.lost: set[Address] = set()
        self.routed: set[Address] = set()
        self.refuse: DataplaneError | None = None

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def ensure(self, wanted: Iterable[Address]) -> None:
        if self.refuse:
            raise self.refuse
        self.wanted = frozenset(wanted)
        self.ensured += 1

    def present(self, address: Address) -> bool:
        return address in self.wanted - self.lost or address in self.elsewhere

    def is_routed(self, address: Address) -> bool:
        return address in self.routed

    def look_soon(self) -> None: ...

    def notes(self) -> list[str]:
        return []
