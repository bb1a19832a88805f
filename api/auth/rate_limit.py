# SPDX-License-Identifier: Apache-2.0
"""Limits of requests for each client: their rate, and how many at once. Both remember a bounded number of keys.

Keys name clients; this module does not know how.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from xdpdirector.errors import OverloadedError, TooManyRequestsError

KEYS = 4096
AT_ONCE, AT_ONCE_IN_ALL, RESERVED = 128, 256, 32
_NOTHING = 1e-6  # seconds, for what sums of fractions lose


class RateLimiter:
    """A token bucket for each key, kept as the time at which it is full again (GCRA, ITU-T I.371).

    `rate` requests a second, `burst` at once. Beyond `KEYS` keys the one that was idle longest is forgotten, which
    gives it a full bucket.
    """

    def __init__(self, rate: float, burst: float, now: Callable[[], float] = monotonic) -> None:
        self._interval, self._now = 1 / rate, now
        self._depth = (burst - 1) * self._interval + _NOTHING
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str) -> None:
        """TooManyRequestsError when the bucket is empty."""
        now = self._now()
        full_at = max(self._full_at.get(key, now), now)
        if full_at - now > self._depth:
            wait = math.ceil(full_at - now - self._depth)
            raise TooManyRequestsError(
                f"More than {1 / self._interval:.0f} requests a second: ask again in {wait} s, and ask less often.",
                retry_after=wait,
            )
        self._full_at[key] = full_at + self._interval
        self._full_at.move_to_end(key)
        if len(self._full_at) > KEYS:
            self._full_at.popitem(last=False)


class ConcurrencyLimiter:
    """Limits requests that are being answered, streams and long polls included. `reserved`: for administrators."""

    def __init__(self, each: int = AT_ONCE, in_all: int = AT_ONCE_IN_ALL, reserved: int = RESERVED) -> None:
        self._each, self._in_all, self._reserved = each, in_all, reserved
        self._by_key: Counter[str] = Counter()

    @contextmanager
    def one(self, key: str, *, privileged: bool = False) -> Iterator[None]:
        """Count a request for the length of the block. TooManyRequestsError or OverloadedError beyond a limit."""
        if self._by_key[key] >= self._each:
            raise TooManyRequestsError(
                f"{self._each} requests of yours are under way: end some of them (streams, long polls) first."
            )
        room = self._in_all if privileged else self._in_all - self._reserved
        if self._by_key.total() >= room:
            raise OverloadedError(f"{room} requests are under way: ask again in a second.")
        self._by_key[key] += 1
        try:
            yield
        finally:
            self._by_key[key] -= 1
            if not self._by_key[key]:
                del self._by_key[key]
