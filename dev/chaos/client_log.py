# SPDX-License-Identifier: Apache-2.0
"""What becomes of a chaos run's connections, as the clients write it down: a line of JSON each. Values only.

Times are seconds of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

OK = "ok"
RESET, REFUSED, CLOSED, MOVED, SILENT, FAILED = "reset", "refused", "closed", "moved", "silent", "failed"
NEW, IDLE, LINES, DOWNLOAD = "new", "idle", "lines", "download"


@dataclass(frozen=True)
class Ended:
    """A connection that ended, well or badly. `backend` is who answered first; `last` when it was heard last."""

    kind: str
    service: str
    family: int
    port: int
    opened: float
    at: float
    backend: str | None
    outcome: str
    last: float | None = None
    detail: str = ""

    @property
    def broken(self) -> bool:
        return self.outcome != OK


@dataclass(frozen=True)
class Second:
    """What the clients did within one second: new connections that were served, how many of them after more than
    LATE, the slowest; answers to running ones; by how much the clients themselves came too late to a moment."""

    at: float
    served: int
    late: int
    slowest: float
    answers: int
    lag: float


LATE = 1.0


def line(record: Ended | Second) -> str:
    return json.dumps([type(record).__name__, asdict(record)])


def parse(text: str) -> Ended | Second:
    name, values = json.loads(text)
    return Ended(**values) if name == Ended.__name__ else Second(**values)
