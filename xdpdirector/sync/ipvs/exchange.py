# SPDX-License-Identifier: Apache-2.0
"""Takes datagrams of the IPVS sync protocol into the connection tables, and writes what has changed there.

Has its own view of the tables, besides that of connection sync between directors of this kind: what comes by one
way goes out by the other. All work is done in one thread. Knows no sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Array, Tables
from xdpdirector.dataplane.rings import Rings
from xdpdirector.model import ServiceSpec
from xdpdirector.model.lvs import LvsSyncSpec
from xdpdirector.sync.clients import ClientTable
from xdpdirector.sync.ipvs import message
from xdpdirector.sync.ipvs.incoming import Mapper, Rejected, Unmapped
from xdpdirector.sync.ipvs.message import Entry
from xdpdirector.sync.ipvs.outgoing import Writer
from xdpdirector.sync.ipvs.places import Fwmarks, Places
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.merger import Merger
from xdpdirector.sync.names import NameReader, Translation
from xdpdirector.sync.scanner import Scanner

Result = TypeVar("Result")
Services = Mapping[str, ServiceSpec]
DATAGRAMS_EACH = 32
"""Of all there is, at a time: a backup's socket takes no more at once."""


@dataclass
class Taken:
    """What became of datagrams, and of the entries in them. `foreign`: of another syncid; `malformed`: the rest of
    so many was not read, last because of `why`."""

    datagrams: int = 0
    foreign: int = 0
    malformed: int = 0
    why: str = ""
    connections: Merged = field(default_factory=Merged)
    templates: Merged = field(default_factory=Merged)
    rejected: Rejected = field(default_factory=Rejected)

    def add(self, other: Taken) -> None:
        self.datagrams += other.datagrams
        self.foreign += other.foreign
        self.malformed += other.malformed
        self.why = other.why or self.why
        self.connections.add(other.connections)
        self.templates.add(other.templates)
        self.rejected.add(other.rejected)


class Exchange:
    """Close it before the maps. `services`: as they are configured now."""

    def __init__(
        self,
        spec: LvsSyncSpec,
        fwmarks: Fwmarks,
        services: Callable[[], Services],
        plane: tuple[Tables, Clock, Path, Rings],
    ) -> None:
        """`plane`: maps, their time, where the program `merge` is pinned, and the rings' one writer."""
        self._tables, clock, program, self._rings = plane
        self._spec, self._fwmarks, self._services = spec, fwmarks, services
        self._thread = ThreadPoolExecutor(1, "the IPVS sync")
        self._names = NameReader(self._tables)
        self._scanner = Scanner(self._tables, clock, self._names)
        self._merger = Merger(self._tables, self._scanner, program)
        self._clients = ClientTable(self._tables, clock)
        self.sent = 0
        """Entries that went into datagrams."""
        self._states = self._tables.enums["connection_state"]
        self._told: list[tuple[str, ServiceSpec]] | None = None
        self._places = Places({}, {}, self._names.names)

    def close(self) -> None:
        self._thread.shutdown()
        self._merger.close()
        self._scanner.close()

    async def take(self, datagrams: Sequence[bytes]) -> Taken:
        """Merge what they say."""
        taken, exceptions = await self._in_thread(partial(self._take, datagrams))
        for some in exceptions:
            self._rings.mark_exceptions(some)
        return taken

    async def changed(self) -> list[bytes]:
        """Datagrams of what has changed since the last call, or was used again after some time."""
        return await self._in_thread(lambda: list(self._written(self._counted(self._scanned()))))

    async def noted(self) -> None:
        """Take what has changed as seen. Without it, what packets did here could not be told from what LVS said."""
        await self._in_thread(self._scanner.scan)

    async def all(self) -> AsyncIterator[list[bytes]]:
        """Datagrams of all there is, some at a time."""
        pieces: Iterator[bytes] = iter(())

        def begin() -> None:
            nonlocal pieces
            pieces = self._written(self._everything())

        await self._in_thread(begin)
        while some := await self._in_thread(lambda: list(islice(pieces, DATAGRAMS_EACH))):
            yield some

    def _take(self, datagrams: Sequence[bytes]) -> tuple[Taken, list[Array]]:
        taken, entries = Taken(datagrams=len(datagrams)), []
        for datagram in datagrams:
            said = message.parse(datagram)
            if said.malformed:
                taken.malformed, taken.why = taken.malformed + 1, said.malformed
            if self._spec.syncid not in (0, said.syncid):
                taken.foreign += 1
                continue
            entries += said.entries
            if said.skipped:
                taken.rejected.count(Unmapped.OPTION, "an entry has an option that is unknown", said.skipped)
        mapped = Mapper(self._places, self._states).mapped(entries)
        taken.rejected.add(mapped.rejected)
        exceptions = []
        identity, states = _identity(), np.arange(256, dtype=np.uint8)
        for batches, replaces in ((mapped.running, True), (mapped.ended, False)):
            for batch in batches:
                merged, found = self._merger.merge(batch, identity, states, is_first=replaces)
                taken.connections.add(merged)
                exceptions.append(found)
        if len(mapped.clients):
            taken.templates.add(self._clients.merge(mapped.clients, identity))
        return taken, [each for each in exceptions if len(each)]

    def _scanned(self) -> Iterator[Entry]:
        writer = self._writer()
        for batch in self._scanner.scan():
            yield from writer.connections(batch)
        if self._clients.any_persistent():
            yield from writer.templates(self._clients.changed())

    def _everything(self) -> Iterator[Entry]:
        writer = self._writer()
        for batch in self._scanner.bulk():
            yield from self._counted(writer.connections(batch))
        yield from self._counted(writer.templates(self._clients.all()))

    def _counted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            self.sent += 1
            yield entry

    def _writer(self) -> Writer:
        ticks, timeouts = self._scanner.ticks, self._tables.services["timeouts"].copy()

        def timeout(service: int, state: int) -> int:
            return int(ticks.milliseconds(timeouts[service, state]))

        return Writer(self._places, self._names.names, self._states, timeout)

    def _written(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        return message.written(entries, self._spec.syncid, self._spec.version)

    def _learn(self, services: Services) -> None:
        """Which services there are, and what their numbers are now."""
        now = list(services.items())
        same = self._told is not None and len(now) == len(self._told)
        same = same and all(a is c and b is d for (a, b), (c, d) in zip(now, self._told or (), strict=True))
        if self._names.changed() or not same:
            self._told = now
            self._places = Places(services, self._fwmarks, self._names.names)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        services = self._services()

        def informed() -> Result:
            self._learn(services)
            return work()

        return await asyncio.get_running_loop().run_in_executor(self._thread, informed)


def _identity() -> Translation:
    """Numbers are ours already."""
    numbers = np.arange(1 << 16, dtype=np.uint16)
    return Translation(numbers, numbers, numbers)
