# SPDX-License-Identifier: Apache-2.0
"""Failed authentications by address: when they are reported, and by how much their answers are delayed.

The first failure of an address is reported at once, later ones together once in a while. Answers are delayed after
many failures. Knows no tokens; remembers a bounded number of addresses.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

REPORT_INTERVAL = 10.0  # seconds between two reports of an address
TRIES = 10  # without a delay
FORGIVEN = 6.0  # seconds after which a try counts no more
LONGEST_DELAY = 4.0  # seconds
ADDRESSES = 4096


@dataclass
class _Tries:
    counted: float = 0.0
    """How many count still."""
    seen: float = 0.0
    unreported: int = 0
    reported: float | None = None


@dataclass(frozen=True)
class Failure:
    """`report`: how many tries of the address to report now; 0: none. `delay`: seconds."""

    report: int
    delay: float


class FailedLogins:
    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.failures = 0
        """Of all."""
        self._now = now
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tries)

    def failed(self, client_key: str) -> Failure:
        """One more try from there."""
        now = self._now()
        self.failures += 1
        tries = self._tries.setdefault(client_key, _Tries(seen=now))
        self._tries.move_to_end(client_key)
        if len(self._tries) > ADDRESSES:
            self._tries.popitem(last=False)
        tries.counted = max(0.0, tries.counted - (now - tries.seen) / FORGIVEN) + 1
        tries.seen, tries.unreported = now, tries.unreported + 1
        delay = (
            min(LONGEST_DELAY, 0.25 * 2 ** min(10.0, tries.counted - TRIES)) if tries.counted > TRIES else 0.0
        )
        if tries.reported is not None and now - tries.reported < REPORT_INTERVAL:
            return Failure(0, delay)
        report, tries.unreported, tries.reported = tries.unreported, 0, now
        return Failure(report, delay)
