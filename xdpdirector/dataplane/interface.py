# SPDX-License-Identifier: Apache-2.0
"""The seam between deciding and the kernel: what the director needs of a data plane.

`RealPlane` in `xdpdirector.dataplane.kernel` fills it for real.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from xdpdirector.dataplane.explain_types import Finding, Question
from xdpdirector.dataplane.inventory_types import Holdings
from xdpdirector.dataplane.service_plan import ServicePlan, State
from xdpdirector.dataplane.trace_types import Decision, Selection
from xdpdirector.model import Key, ServiceSpec
from xdpdirector.model.guard import Prefix
from xdpdirector.model.listener import Address
from xdpdirector.model.status import (
    AttachmentView,
    ConnectionCounts,
    ConnectionPage,
    Fill,
    Refused,
    Traffic,
)


class Plane(Protocol):
    """Keys are (service, backend). Times are monotonic seconds."""

    def adopted(self) -> dict[Key, State]:
        """The backends it knew before, and how they served."""

    def adopted_vips(self) -> dict[Key, dict[Address, bool]]:
        """Of the same: for each VIP that they had, whether they take its packets while they serve."""

    def services(self) -> set[str]: ...

    def apply(self, plan: ServicePlan, now: float) -> int:
        """Bring it to this plan; how many places had to be written. CapacityError or DataplaneError when it
        cannot be; then part of it may be there, and applying the plan before brings that back."""

    def require_room(self, services: Mapping[str, ServiceSpec], gone: Collection[str] = ()) -> None:
        """CapacityError when it could not hold these, in place of those of the same names, even without the
        services that are `gone`. Nothing is changed."""

    def remove(self, name: str) -> None:
        """Of a service that it has."""

    def is_settled(self, service: str) -> bool:
        """Whether all running flows that need a record have one: only then are counts of 0 the truth."""

    def counts(self, key: Key) -> ConnectionCounts: ...

    def traffic(self, keys: Collection[Key]) -> dict[Key, Traffic]:
        """Of each of these; nothing of a backend that the plane does not know."""

    def departed(self, service: str) -> Traffic:
        """Of the backends that the service had and has no more."""

    def total_traffic(self) -> Traffic:
        """Of all backends that there are and were."""

    def verdicts(self) -> dict[str, int]: ...

    def deny(self, prefixes: Collection[Prefix]) -> int:
        """Exactly these clients are denied from now on; how many places had to be written. CapacityError or
        DataplaneError when it cannot be; denying what was denied before brings that back."""

    def deny_some(self, new: Collection[Prefix], gone: Collection[Prefix]) -> int:
        """These are denied besides, and those no more; else as `deny`, at a cost of these alone."""

    async def denies_as_told(self) -> bool:
        """Whether it still denies whom it was told, as far as can be seen: of very many it looks at some each
        time. DataplaneError."""

    def denied(self) -> set[Prefix]:
        """Who is denied, as a predecessor may have left it."""

    def denied_packets(self, prefix: Prefix) -> int:
        """Packets dropped since the prefix is denied."""

    def refused(self, service: str) -> Refused: ...

    def connections(
        self,
        *,
        service: str | None,
        backend: str | None,
        client: str | None,
        limit: int,
        place: int = 0,
    ) -> Callable[[], ConnectionPage]:
        """What reads a page of the connections that match, from a place in the table on, at most `limit` of them.
        It takes as long as the table is large: to be called in another thread."""

    def total_connections(self) -> int: ...

    def clients_turned_away(self) -> int:
        """How often the table of clients had no room for one more."""

    def fill(self) -> dict[str, Fill]:
        """How full the maps are, by their name in `sizes`."""

    def attachments(self) -> tuple[AttachmentView, ...]: ...

    def watch(self, selection: Selection | None, seconds: float) -> None:
        """Tell of these decisions for so long, and of no others; None: of none."""

    def decisions(self, most: int) -> tuple[int, list[Decision]]:
        """How many could not be told since this was asked last, and what was told; at most so many."""

    async def holdings(self) -> Holdings:
        """What the kernel holds; DataplaneError."""

    async def explain(self, question: Question) -> Finding:
        """What the packet program would do. InvalidRequestError: there is no such interface. DataplaneError."""

    async def sweep(self, now: float) -> None:
        """Count connections anew, and let go of what has timed out."""
