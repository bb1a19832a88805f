# SPDX-License-Identifier: Apache-2.0
"""The drains under way. Pure but for the time it is given: knows neither maps nor tasks.

running --(no connection left, and none can be hidden)--> drained
running --(deadline, on_deadline = keep)--> running, overdue
running --(deadline, on_deadline = cut)--> due: the caller puts the backend into maintenance
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from xdpdirector.views import DrainView

Key = tuple[str, str]


@dataclass(frozen=True)
class Drain:
    """One drain; `at_start` are the connections the backend had when it began."""

    since: datetime
    reason: str
    deadline: datetime | None
    on_deadline: Literal["keep", "cut"]
    at_start: int

    def view(self, remaining: int, settled: bool) -> DrainView:
        return DrainView(
            since=self.since,
            reason=self.reason,
            deadline=self.deadline,
            on_deadline=self.on_deadline,
            connections_at_start=self.at_start,
            remaining=remaining,
            settled=settled,
        )


class Drains:
    """By (service, backend)."""

    def __init__(self) -> None:
        self._running: dict[Key, Drain] = {}

    def begin(
        self,
        key: Key,
        connections: int,
        *,
        reason: str = "",
        deadline: float | None = None,
        on_deadline: Literal["keep", "cut"] = "keep",
    ) -> None:
        """Start one, or give the running one another reason and deadline (`deadline`: seconds from now)."""
        now = datetime.now(UTC)
        earlier = self._running.get(key)
        self._running[key] = Drain(
            since=earlier.since if earlier else now,
            reason=reason,
            deadline=None if deadline is None else now + timedelta(seconds=deadline),
            on_deadline=on_deadline,
            at_start=earlier.at_start if earlier else connections,
        )

    def end(self, key: Key) -> None:
        self._running.pop(key, None)

    def running(self) -> set[Key]:
        return set(self._running)

    def get(self, key: Key) -> Drain | None:
        return self._running.get(key)

    def due(self, now: datetime) -> list[Key]:
        """Whose deadline has passed and who shall be cut then."""
        return [
            key
            for key, drain in self._running.items()
            if drain.on_deadline == "cut" and drain.deadline and drain.deadline <= now
        ]
