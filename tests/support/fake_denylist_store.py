# SPDX-License-Identifier: Apache-2.0
"""Where a deny list is kept, in memory."""

from __future__ import annotations

from collections.abc import Collection

from xdpdirector.model.guard import Prefix
from xdpdirector.state.denylist import (
    Denials,
    StoredDenyList,
)


class FakeDenyListStore:
    """Remembers; `broken` is raised by what is asked next."""

    def __init__(self) -> None:
        self.kept = StoredDenyList({})
        self.broken: Exception | None = None

    def load(self) -> StoredDenyList:
        return self.kept

    def keep(self, before: Denials, kept: StoredDenyList) -> None:
        if self.broken:
            raise self.broken
        self.kept = kept

    def keep_some(self, before: Denials, kept: StoredDenyList, touched: Collection[Prefix]) -> None:
        self.keep(before, kept)
