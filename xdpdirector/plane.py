# SPDX-License-Identifier: Apache-2.0
"""The seam between deciding and the kernel: what the director needs of a data plane, and a fake that remembers.

`xdpdirector.dataplane` and its companions fill it for real (`RealPlane` in `xdpdirector.daemon`).
"""

from __future__ import annotations

from typing import Protocol

from xdpdirector.schedule import ServicePlan, State
from xdpdirector.views import AttachmentView, ConnectionCounts, ConnectionView, Traffic

Key = tuple[str, str]


class Plane(Protocol):
    """Keys are (service, backend). Times are monotonic seconds."""

    def adopted(self) -> dict[Key, State]:
        """The backends it knew before, and how they served."""

    def services(self) -> set[str]: ...

    def apply(self, plan: ServicePlan, now: float) -> int:
        """Bring it to this plan; how many places had to be written."""

    def remove(self, name: str) -> None: ...

    def is_settled(self, service: str) -> bool: ...

    def counts(self, key: Key) -> ConnectionCounts: ...

    def traffic(self, key: Key) -> Traffic: ...

    def verdicts(self) -> dict[str, int]: ...

    def connections(
        self, *, service: str | None, backend: str | None, client: str | None, limit: int
    ) -> list[ConnectionView]: ...

    def total_connections(self) -> int: ...

    def attachments(self) -> tuple[AttachmentView, ...]: ...

    async def sweep(self, now: float) -> None:
        """Count connections anew, and let go of what has timed out."""


class FakePlane:
    """Remembers plans; tests set `active` and `settled`."""

    def __init__(self, adopted: dict[Key, State] | None = None) -> None:
        self.plans: dict[str, ServicePlan] = {}
        self.active: dict[Key, int] = {}
        self.unsettled: set[str] = set()
        self.refusal: Exception | None = None
        self._adopted = adopted or {}

    def adopted(self) -> dict[Key, State]:
        return self._adopted

    def services(self) -> set[str]:
        return set(self.plans) | {service for service, _ in self._adopted}

    def apply(self, plan: ServicePlan, now: float) -> int:
        if self.refusal:
            refusal, self.refusal = self.refusal, None
            raise refusal
        changed = self.plans.get(plan.name) != plan
        self.plans[plan.name] = plan
        return int(changed)

    def remove(self, name: str) -> None:
        self.plans.pop(name, None)

    def is_settled(self, service: str) -> bool:
        return service not in self.unsettled

    def counts(self, key: Key) -> ConnectionCounts:
        return ConnectionCounts(active=self.active.get(key, 0))

    def traffic(self, key: Key) -> Traffic:
        return Traffic()

    def verdicts(self) -> dict[str, int]:
        return {}

    def connections(
        self, *, service: str | None, backend: str | None, client: str | None, limit: int
    ) -> list[ConnectionView]:
        return []

    def total_connections(self) -> int:
        return sum(self.active.values())

    def attachments(self) -> tuple[AttachmentView, ...]:
        return ()

    async def sweep(self, now: float) -> None:
        pass
