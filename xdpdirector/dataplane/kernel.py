# SPDX-License-Identifier: Apache-2.0
"""The data plane in the kernel, for the director: maps, sweep and attachments behind one interface."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from xdpdirector.dataplane import inventory, secondary_mac_map
from xdpdirector.dataplane.conntrack import Records
from xdpdirector.dataplane.conntrack_gc import SweepResult, sweep
from xdpdirector.dataplane.conntrack_list import Connections
from xdpdirector.dataplane.explain_run import Explainer
from xdpdirector.dataplane.explain_types import Finding, Question, frame_of
from xdpdirector.dataplane.inventory_types import Holdings
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Tables
from xdpdirector.dataplane.probe_tunnels import RealProbeTunnels
from xdpdirector.dataplane.rings import Rings
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.dataplane.trace_reader import Decisions
from xdpdirector.dataplane.trace_types import Decision, Selection
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.errors import CapacityError, DataplaneError, InvalidRequestError
from xdpdirector.loader import attachment, compiler
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Key, ServiceSpec
from xdpdirector.model.connection_query import ConnectionQuery
from xdpdirector.model.guard import Prefix
from xdpdirector.model.listener import Address
from xdpdirector.model.passive import PassiveCounts
from xdpdirector.model.status import (
    AttachmentView,
    CidPackets,
    ConnectionCounts,
    ConnectionPage,
    Dropped,
    Fill,
    Refused,
    ServiceCounters,
    Traffic,
)
from xdpdirector.net import own_macs
from xdpdirector.paths import InstancePaths

Result = TypeVar("Result")

# MAC addresses of an explained frame: reserved for documentation (RFC 9542, 2.1.4).
SENDER, RECEIVER = bytes.fromhex("00005e005301"), bytes.fromhex("00005e005302")


class RealPlane:
    """Opens the maps and programs that the loader made. A context manager. Implements
    `xdpdirector.dataplane.interface.Plane`."""

    def __init__(self, paths: InstancePaths, loaded: Loaded) -> None:
        """DataplaneError when maps or programs are missing."""
        self._paths = paths
        self._tables = Tables(loaded)
        self._clock = Clock(paths.pins / "clock")
        self._records = Records(self._tables, paths.pins / "reap")
        self._dataplane = Dataplane(self._tables, self._clock)
        self._connections = Connections(self._tables, self._records, self._clock, self._dataplane.indices)
        self._explainer: Explainer | None = None
        self._explaining = asyncio.Lock()
        self._using, self._closed = threading.Lock(), False
        """Held by a thread while it reads the maps, so that they are not closed meanwhile."""
        self._decisions: Decisions | None = None
        self._last: SweepResult | None = None

    def __enter__(self) -> RealPlane:
        return self

    def __exit__(self, *_: object) -> None:
        with self._using:
            self._closed = True
        if self._explainer:
            self._explainer.close()
        self.watch(None, 0)
        self._tables.close()
        self._records.close()
        self._clock.close()

    def connection_tables(self) -> tuple[Tables, Clock, Path, Rings]:
        """For connection sync, which must be closed before this: the maps, the clock, where the program
        `merge` is pinned, and the only writer of the rings."""
        return self._tables, self._clock, self._paths.pins / "merge", self._dataplane.rings

    def probe_tunnels(self) -> RealProbeTunnels:
        """For health checks, which must end before this."""
        return RealProbeTunnels(self._tables, self._paths.pins / "probe")

    def adopted(self) -> dict[Key, State]:
        return self._dataplane.backends.adopted()

    def adopted_vips(self) -> dict[Key, dict[Address, bool]]:
        return self._dataplane.backends.adopted_vips(self._dataplane.fronts)

    def services(self) -> set[str]:
        return self._dataplane.services()

    def apply(self, plan: ServicePlan, now: float) -> int:
        with _explained():
            return self._dataplane.apply(plan, now)

    def require_room(self, services: Mapping[str, ServiceSpec], gone: Collection[str] = ()) -> None:
        self._dataplane.capacity.require_room(services, gone)

    def remove(self, name: str) -> None:
        with _explained():
            self._dataplane.remove(name)

    def is_settled(self, service: str) -> bool:
        return self._dataplane.rings.is_settled(service)

    def counts(self, key: Key) -> ConnectionCounts:
        """Zero for a backend that is not in the maps (yet)."""
        index = self._dataplane.indices.backends.get(key)
        if index is None:
            return ConnectionCounts()
        active, inactive = self._dataplane.counters.load(key)
        pending = int(self._last.pending[index]) if self._last else 0
        return ConnectionCounts(active=active, inactive=inactive, pending=pending)

    def counts_of(self, keys: Collection[Key]) -> dict[Key, ConnectionCounts]:
        return self._dataplane.counters.connections(keys, self._last.pending if self._last else None)

    def traffic(self, keys: Collection[Key]) -> dict[Key, Traffic]:
        return self._dataplane.counters.traffic(keys)

    def departed(self, services: Collection[str]) -> dict[str, Traffic]:
        return self._dataplane.counters.departed(services)

    def service_counters(self) -> ServiceCounters:
        return self._dataplane.counters.of_services()

    def total_traffic(self) -> Traffic:
        return self._dataplane.counters.total_traffic()

    def verdicts(self) -> dict[str, int]:
        return self._dataplane.counters.verdicts()

    def deny(self, prefixes: Collection[Prefix]) -> int:
        with _explained():
            return self._dataplane.deny(prefixes)

    def deny_some(self, new: Collection[Prefix], gone: Collection[Prefix]) -> int:
        with _explained():
            return self._dataplane.deny_some(new, gone)

    async def denies_as_wanted(self) -> bool:
        guarding = self._dataplane.guarding
        with _explained():
            if await _in_thread(guarding.survey):
                return True
            guarding.check()
            return False

    def denied(self) -> set[Prefix]:
        return self._dataplane.guarding.denied()

    def denied_packets(self, prefix: Prefix) -> int:
        return self._dataplane.guarding.denied_packets(prefix)

    def refused(self, services: Collection[str]) -> dict[str, Refused]:
        return self._dataplane.counters.refused(services)

    def cids(self, services: Collection[str]) -> dict[str, CidPackets]:
        return self._dataplane.counters.cids(services)

    def passive(self, keys: Collection[Key]) -> dict[Key, PassiveCounts]:
        return self._dataplane.counters.passive(keys)

    def drops(self, services: Collection[str]) -> dict[str, Dropped]:
        return self._dataplane.counters.drops(services)

    def connections(self, query: ConnectionQuery) -> Callable[[], ConnectionPage]:
        read = self._connections.reader(query)

        def read_while_open() -> ConnectionPage:
            with self._using, _explained():
                if self._closed:
                    raise DataplaneError("the daemon is stopping: try again when it runs")
                return read()

        return read_while_open

    def total_connections(self) -> int:
        return self._last.total if self._last else 0

    def clients_turned_away(self) -> int:
        return self._dataplane.counters.clients_turned_away()

    def fill(self) -> dict[str, Fill]:
        sizes = self._tables.loaded.sizes
        room = sizes.connections + sizes.connections6
        clients = self._last.clients if self._last else 0
        return self._dataplane.capacity.fill() | {
            "connections": Fill(entries=self.total_connections(), room=room),
            "clients": Fill(entries=clients, room=sizes.clients),
        }

    def attachments(self) -> tuple[AttachmentView, ...]:
        return tuple(
            AttachmentView(interface=found.interface, mode=found.mode, program_id=found.program_id)
            for found in attachment.attachments(self._paths)
        )

    def take_frames_for(self, macs: Sequence[bytes], former: Sequence[bytes]) -> None:
        """See `own_macs.write`."""
        own_macs.write(self._tables.stations, macs, former)

    def leave_frames_for(self, macs: Set[bytes]) -> None:
        """See `secondary_mac_map.write`."""
        with _explained():
            secondary_mac_map.write(self._tables, macs)

    async def holdings(self) -> Holdings:
        with _explained():
            return await asyncio.to_thread(
                inventory.take,
                self._paths,
                self._tables,
                self._records,
                self._dataplane.indices,
                self._clock,
                self.fill(),
            )

    def watch(self, selection: Selection | None, seconds: float) -> None:
        with _explained():
            if selection is not None:
                self._decisions = self._decisions or Decisions(
                    self._tables, self._clock, self._dataplane.indices
                )
                self._decisions.select(selection, seconds)
                self._dataplane.watch(selection.services or self._dataplane.services())
            elif self._decisions:
                self._dataplane.watch([])
                self._decisions.close()
                self._decisions = None

    def decisions(self, most: int) -> tuple[int, list[Decision]]:
        with _explained():
            return self._decisions.take(most) if self._decisions else (0, [])

    async def explain(self, question: Question) -> Finding:
        carrying = (found.interface for found in attachment.attachments(self._paths))
        interface = question.interface or next(carrying, "lo")
        try:
            socket.if_nametoindex(interface)
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL, or not encodable
            raise InvalidRequestError(
                f"there is no interface '{interface}' here", pointer="/interface"
            ) from error
        # The first caller waits for the compiler; callers that come meanwhile wait with it.
        async with self._explaining:
            if self._explainer is None:
                loaded = self._tables.loaded
                program = await asyncio.to_thread(compiler.ensure_explaining, self._paths, loaded)
                with _explained():  # somebody may have removed the pin
                    self._explainer = Explainer(program, self._tables, self._dataplane.indices)
        with _explained():
            receiver = own_macs.any_own(self._tables.stations) or RECEIVER
            return self._explainer.ask(frame_of(question, SENDER, receiver), interface)

    async def sweep(self, now: float) -> None:
        rings = self._dataplane.rings.sweep_begins()
        resting = self._dataplane.fronts.resting()
        self._last = await _in_thread(lambda: sweep(self._tables, self._records, self._clock))
        if rings == self._dataplane.rings.writes:  # else the sweep saw outdated owners
            self._dataplane.settle(self._last.exceptions, now)
        self._dataplane.members.even_turns()
        self._dataplane.fronts.release(resting)
        writes = self._dataplane.listener_writes
        found = await _in_thread(self._dataplane.read)
        if writes == self._dataplane.listener_writes:
            self._dataplane.read_again(found)


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Run in a thread. If cancelled, still wait for the thread: it uses the maps until it ends."""
    working = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    finally:
        await asyncio.wait([working])


@contextmanager
def _explained() -> Iterator[None]:
    """Translate OSError to CapacityError or DataplaneError."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.E2BIG, errno.ENOSPC)
        raise (CapacityError if full else DataplaneError)(f"the kernel refused: {error}") from error
