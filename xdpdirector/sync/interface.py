# SPDX-License-Identifier: Apache-2.0
"""What sessions with peers need of the connection tables: `ConnectionTables` for the kernel's, a fake in tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

from xdpdirector.clock import Clock
from xdpdirector.sync.merger import Merged, Merger
from xdpdirector.sync.names import NameReader, Names, Translation
from xdpdirector.sync.scanner import Batch, Scanner
from xdpdirector.tables import Tables

Result = TypeVar("Result")


class Connections(Protocol):
    """Of this director. All that takes long happens off the event loop."""

    names: Names
    """As they were at the last scan."""

    async def scan(self) -> tuple[list[Batch], bool]:
        """What has changed since the last scan, and whether names are others than then."""

    def bulk(self) -> AsyncIterator[Batch]:
        """All there is."""

    async def merge(self, batch: Batch, theirs: Theirs) -> Merged:
        """Put a peer's records into the tables."""

    def states(self) -> dict[str, int]:
        """enum connection_state."""


class Theirs:
    """What a peer's numbers mean here: worked out anew when either side's names change."""

    def __init__(self, states: Mapping[str, int], *, is_first: bool) -> None:
        self.states, self.is_first = states, is_first
        self._names, self._ours = Names(), Names()
        self._translation: Translation | None = None

    def named(self, names: Names) -> None:
        """The peer's numbers mean this from now on."""
        self._names, self._translation = names, None

    def translation(self, ours: Names) -> Translation:
        if self._translation is None or self._ours is not ours:
            self._translation, self._ours = Translation.between(self._names, ours), ours
        return self._translation


class ConnectionTables:
    """The kernel's. Close it before the maps. All work is done in one thread, one piece after another."""

    def __init__(self, tables: Tables, clock: Clock, program: Path) -> None:
        """`program`: where `merge` is pinned."""
        self._tables = tables
        self._thread = ThreadPoolExecutor(1, "connection sync")
        self._reader = NameReader(tables)
        self._reader.changed()
        self._scanner = Scanner(tables, clock, self._reader)
        self._merger = Merger(tables, self._scanner, program)
        self.names = self._reader.names

    def close(self) -> None:
        self._thread.shutdown()
        self._merger.close()
        self._scanner.close()

    async def scan(self) -> tuple[list[Batch], bool]:
        def work() -> tuple[list[Batch], bool]:
            is_new = self._reader.changed()
            return self._scanner.scan(), is_new

        batches, is_new = await self._in_thread(work)
        self.names = self._reader.names
        return batches, is_new

    async def bulk(self) -> AsyncIterator[Batch]:
        pieces: Iterator[Batch] = self._scanner.bulk()
        while (batch := await self._in_thread(lambda: next(pieces, None))) is not None:
            yield batch

    async def merge(self, batch: Batch, theirs: Theirs) -> Merged:
        translation = theirs.translation(self.names)
        return await self._in_thread(
            lambda: self._merger.merge(
                batch, translation, self._merger.states(theirs.states), is_first=theirs.is_first
            )
        )

    def states(self) -> dict[str, int]:
        return dict(self._tables.enums["connection_state"])

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
