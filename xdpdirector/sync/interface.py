# SPDX-License-Identifier: Apache-2.0
"""What sessions with peers need of the connection tables: `ConnectionTables` for the kernel's, a fake in tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.dataplane.rings import Rings
from xdpdirector.sync import clients, flux
from xdpdirector.sync.clients import ClientTable
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.merger import Merger
from xdpdirector.sync.names import NOBODY, NameReader, Names, Translation
from xdpdirector.sync.scanner import SENT_EACH, Batch, Scanner

Result = TypeVar("Result")
CLIENTS_EVERY = 10  # scans
ENDED = ("FIN", "CLOSED", "ASSURED_FIN", "ASSURED_CLOSED")
"""States of connections that do not run any more."""


class Connections(Protocol):
    """Of this director. All that takes long happens off the event loop."""

    names: Names
    """As they were at the last scan."""
    cost: float
    """Seconds of a processor that the last scan took."""

    async def scan(self) -> tuple[list[Batch], bool]:
        """What has changed since the last scan, and whether names are others than then."""

    def bulk(self) -> AsyncIterator[Batch]:
        """All there is."""

    async def merge(self, batch: Batch, theirs: Theirs) -> Merged:
        """Put a peer's records into the tables."""

    async def flows_here(self, silent: float | None) -> int:
        """How many running connections were seen here last, and not at a peer; without those of which no packet
        came for so many seconds."""

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


def _cut(table: str, records: Array) -> list[Batch]:
    return [Batch(table, records[i : i + SENT_EACH]) for i in range(0, len(records), SENT_EACH)]


class ConnectionTables:
    """The kernel's. Close it before the maps. All work is done in one thread, one piece after another."""

    def __init__(
        self,
        tables: Tables,
        clock: Clock,
        program: Path,
        rings: Rings,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """`program`: where `merge` is pinned. `rings`: their one writer, on the event loop. `now`: their clock."""
        self._tables, self._rings, self._now = tables, rings, now
        self._clients, self._scans = ClientTable(tables, clock), 0
        self._thread = ThreadPoolExecutor(1, "connection sync")
        self._reader = NameReader(tables)
        self._reader.changed()
        self._scanner = Scanner(tables, clock, self._reader)
        self._merger = Merger(tables, self._scanner, program)
        self.names, self.cost = self._reader.names, 0.0

    def close(self) -> None:
        self._thread.shutdown()
        self._merger.close()
        self._scanner.close()

    async def scan(self) -> tuple[list[Batch], bool]:
        def work() -> tuple[list[Batch], bool]:
            begun = time.thread_time()
            is_new = self._reader.changed()
            batches = self._scanner.scan()
            if self._scans % CLIENTS_EVERY == 0 and self._clients.any_persistent():
                batches += _cut(clients.TABLE, self._clients.changed())
            self._scans += 1
            self.cost = time.thread_time() - begun
            return batches, is_new

        batches, is_new = await self._in_thread(work)
        self.names = self._reader.names
        return batches, is_new

    async def bulk(self) -> AsyncIterator[Batch]:
        pieces = self._pieces()
        while (batch := await self._in_thread(lambda: next(pieces, None))) is not None:
            yield batch

    def _pieces(self) -> Iterator[Batch]:
        """Slots in flux before the connections that may disagree with their owners."""
        yield from _cut(flux.TABLE, flux.read(self._tables, self._flux_left))
        yield from self._scanner.bulk()
        yield from _cut(clients.TABLE, self._clients.all())

    def _flux_left(self, service: int) -> float:
        """Seconds."""
        return self._rings.flux_left(self._reader.names.services.get(service, ""), service, self._now())

    async def merge(self, batch: Batch, theirs: Theirs) -> Merged:
        translation = theirs.translation(self.names)
        if batch.table == flux.TABLE:
            return self._enter_flux(batch.records, translation)
        if batch.table == clients.TABLE:
            return await self._in_thread(lambda: self._clients.merge(batch.records, translation))
        merged, exceptions = await self._in_thread(
            lambda: self._merger.merge(
                batch, translation, self._merger.states(theirs.states), is_first=theirs.is_first
            )
        )
        if len(exceptions):
            self._rings.mark_exceptions(exceptions)
        return merged

    async def flows_here(self, silent: float | None) -> int:
        ended = [self._tables.enums["connection_state"][f"CONNECTION_{name}"] for name in ENDED]
        return await self._in_thread(lambda: self._scanner.seen_here(ended, silent))

    def _enter_flux(self, records: Array, translation: Translation) -> Merged:
        services = translation.services[records["service"]]
        owners, before = (translation.backends[records[name]] for name in ("backend", "before"))
        known = (services != NOBODY) & (owners != NOBODY)
        for service in np.unique(services[known]).tolist():
            some = known & (services == service)
            self._rings.enter_flux(
                self.names.services[service],
                records["slot"][some].astype(np.int64),
                owners[some].astype(np.uint64),
                before[some].astype(np.uint64),
                self._now(),
                float(records["left"][some].max()) / 1000,
            )
        return Merged(updated=int(known.sum()), unknown=int((~known).sum()))

    def states(self) -> dict[str, int]:
        return dict(self._tables.enums["connection_state"])

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
