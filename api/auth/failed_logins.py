# SPDX-License-Identifier: Apache-2.0
"""Those who cannot say who they are: what is told of them, and how they are slowed down.

Each address is told of at once, and then once in a while with how often it has tried. Who has tried often waits for
his answer. Knows no tokens; remembers a bounded number of addresses.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

TELL_APART = 10.0  # seconds between two times that an address is told of
TRIES = 10  # without a delay
FORGIVEN = 6.0  # seconds after which a try counts no more
LONGEST_DELAY = 4.0  # seconds
ADDRESSES = 4096


@dataclass
class _Tries:
    counted: float = 0.0
    """How many count still."""
    seen: float = 0.0
    untold: int = 0
    told: float | None = None


@dataclass(frozen=True)
class Failure:
    """`tell`: how many tries of the address are to be told of now; 0: none. `delay`: seconds."""

    tell: int
    delay: float


class Strangers:
    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.failures = 0
        """Of all."""
        self._now = now
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tries)

    def failed(self, whence: str) -> Failure:
        """One more try from there."""
        now = self._now()
        self.failures += 1
        tries = self._tries.setdefault(whence, _Tries(seen=now))
        self._tries.move_to_end(whence)
        if len(self._tries) > ADDRESSES:
            self._tries.popitem(last=False)
        tries.counted = max(0.0, tries.counted - (now - tries.seen) / FORGIVEN) + 1
        tries.seen, tries.untold = now, tries.untold + 1
        delay = (
            min(LONGEST_DELAY, 0.25 * 2 ** min(10.0, tries.counted - TRIES)) if tries.counted > TRIES else 0.0
        )
        if tries.told is not None and now - tries.told < TELL_APART:
            return Failure(0, delay)
        tell, tries.untold, tries.told = tries.untold, 0, now
        return Failure(tell, delay)
