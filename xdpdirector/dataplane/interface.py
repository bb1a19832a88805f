# SPDX-License-Identifier: Apache-2.0
"""The interface between control and data plane: what the director requires of a data plane.

`RealPlane` in `xdpdirector.dataplane.kernel` implements it on the kernel's maps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from xdpdirector.dataplane.explain_types import Finding, Question
from xdpdirector.dataplane.inventory_types import Holdings
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.dataplane.trace_types import Decision, Selection
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


class Plane(Protocol):
    """Keys are (service, backend). Times are monotonic seconds."""

    def adopted(self) -> dict[Key, State]:
        """The backends found in the maps at start, with their states."""

    def adopted_vips(self) -> dict[Key, dict[Address, bool]]:
        """For the same backends: for each VIP of their service, whether they take packets for it while
        serving."""

    def services(self) -> set[str]: ...

    def apply(self, plan: ServicePlan, now: float) -> int:
        """Apply the plan; returns the number of words or entries written. CapacityError or DataplaneError
        when it fails: part of the plan may then be applied, and applying the previous plan restores it."""

    def require_room(self, services: Mapping[str, ServiceSpec], gone: Collection[str] = ()) -> None:
        """Raise CapacityError unless these services fit, replacing services of the same names, also after the
        services in `gone` are removed. Changes nothing."""

    def remove(self, name: str) -> None:
        """Remove an existing service."""

    def is_settled(self, service: str) -> bool:
        """True if every live flow that needs a record has one. Only then does a count of 0 mean that there
        are no connections."""

    def counts(self, key: Key) -> ConnectionCounts: ...

    def counts_of(self, keys: Collection[Key]) -> dict[Key, ConnectionCounts]:
        """The same of each of these backends, in a fraction of the time when there are many."""

    def traffic(self, keys: Collection[Key]) -> dict[Key, Traffic]:
        """Traffic of each of these backends; zero for a backend that the plane does not know."""

    def departed(self, services: Collection[str]) -> dict[str, Traffic]:
        """Traffic of the backends that were removed from each of these services."""

    def service_counters(self) -> ServiceCounters:
        """The counters of all services; far cheaper than the sums of `traffic`, `departed` and `drops`."""

    def total_traffic(self) -> Traffic:
        """Traffic of all present and former backends."""

    def verdicts(self) -> dict[str, int]: ...

    def deny(self, prefixes: Collection[Prefix]) -> int:
        """Deny exactly these prefixes; returns the number of entries written. CapacityError or DataplaneError
        when it fails; denying the previous prefixes again restores them."""

    def deny_some(self, new: Collection[Prefix], gone: Collection[Prefix]) -> int:
        """Deny `new` as well, and no longer deny `gone`; otherwise as `deny`, at a cost of these prefixes
        only."""

    async def denies_as_wanted(self) -> bool:
        """True if the maps still deny what was requested. Checks only part of a large set on each call.
        DataplaneError."""

    def denied(self) -> set[Prefix]:
        """The denied prefixes in the maps, also those that a previous daemon wrote."""

    def denied_packets(self, prefix: Prefix) -> int:
        """Packets dropped since the prefix was denied."""

    def refused(self, services: Collection[str]) -> dict[str, Refused]:
        """Connections that the limits of each of these services refused."""

    def cids(self, services: Collection[str]) -> dict[str, CidPackets]:
        """Packets of each of these services by what QUIC connection IDs named."""

    def passive(self, keys: Collection[Key]) -> dict[Key, PassiveCounts]:
        """What was counted of each of these backends' clients; zero for a backend that is not watched."""

    def drops(self, services: Collection[str]) -> dict[str, Dropped]:
        """Packets of each of these services that were dropped or rejected."""

    def connections(self, query: ConnectionQuery) -> Callable[[], ConnectionPage]:
        """Returns a function that reads one page of matching connections. Its run time grows with the table: call
        it in another thread."""

    def total_connections(self) -> int: ...

    def clients_turned_away(self) -> int:
        """How often the table of clients had no room for a new client."""

    def fill(self) -> dict[str, Fill]:
        """Fill level of the maps, by their names in `sizes`."""

    def attachments(self) -> tuple[AttachmentView, ...]: ...

    def watch(self, selection: Selection | None, seconds: float) -> None:
        """Trace the selected decisions for this many seconds, and no others. None stops tracing."""

    def decisions(self, most: int) -> tuple[int, list[Decision]]:
        """The number of decisions lost since the last call, and at most `most` traced decisions."""

    async def holdings(self) -> Holdings:
        """What the kernel holds: programs, maps, entries. DataplaneError."""

    async def explain(self, question: Question) -> Finding:
        """What the packet program would do. InvalidRequestError: no such interface. DataplaneError."""

    async def sweep(self, now: float) -> None:
        """Count connections anew, and delete records that timed out."""
