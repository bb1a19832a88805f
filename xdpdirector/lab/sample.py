# SPDX-License-Identifier: Apache-2.0
"""One HTTP request as its client saw it: a line of the load generator's output. A value only."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

OK = "ok"


@dataclass(frozen=True)
class Request:
    """Times are seconds of the machine's monotonic clock, which all its processes share.

    `kind`: `fresh` opened a connection for itself, `kept` used one that lives for several requests. `due` is
    when the schedule wanted it, `start` when it began, `opened` when its connection began. `backend` is who
    answered, or for a failed one who had answered before on its connection. `outcome` is `ok` or how it
    failed: refused, reset, closed, timeout, unreachable, status, protocol, local.
    `resent`: TCP segments that its client had to send again, so packets that may have been lost. `connected`: when
    the connection's handshake was done; 0 for one that never was.
    """

    kind: Literal["fresh", "kept"]
    family: Literal[4, 6]
    due: float
    start: float
    opened: float
    end: float
    backend: str | None
    outcome: str
    resent: int = 0
    connected: float = 0.0

    @property
    def failed(self) -> bool:
        return self.outcome != OK

    @property
    def latency(self) -> float:
        """From when it was due, so that a slow server cannot hide behind a late client."""
        return self.end - self.due

    def to_line(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Request:
        """ValueError or TypeError for anything that `to_line` did not write."""
        return cls(**json.loads(line))
