# SPDX-License-Identifier: Apache-2.0
"""Slow start: a backend that returns gets its weight in steps, so that a cold cache is not overloaded. Pure; the
caller passes the time, in monotonic seconds.

    not serving --(serves again)--> ramping --(slow_start passed)--> serving
    new in a running service --(serves)--> ramping
    there from the service's start --(serves)--> serving: all are cold then, so no slow start

A scheduler with a ring has fewer steps, since each of them moves slots.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import floor

from xdpdirector.model import Key

STEPS, RING_STEPS = 10, 5


@dataclass(slots=True)
class _Past:
    serving: bool
    returns: bool
    """True if its next start of serving is a return, with slow start."""
    rose: float | None = None


class SlowStart:
    """State by backend: `see` updates it, `share` computes the present share of the weight."""

    def __init__(self) -> None:
        self._pasts: dict[Key, _Past] = {}

    def know(self, keys: Collection[Key], *, cold: bool) -> None:
        """Add backends. `cold`: others of their service serve already, so these start slowly."""
        for key in keys:
            self._pasts.setdefault(key, _Past(serving=False, returns=cold))

    def forget(self, keys: Collection[Key]) -> None:
        """Drop the state of these backends."""
        for key in keys:
            self._pasts.pop(key, None)

    def see(self, key: Key, serving: bool, now: float) -> None:
        """Update whether the backend serves according to health and admin state."""
        past = self._pasts.setdefault(key, _Past(serving=False, returns=False))
        if serving and not past.serving:
            past.rose = now if past.returns else None
        elif past.serving and not serving:
            past.returns, past.rose = True, None
        past.serving = serving

    def share(self, key: Key, length: float | None, *, steps: int, now: float) -> float:
        """The share, from 1/steps to 1. `length`: duration in seconds, None for no slow start."""
        past = self._pasts.get(key)
        if length is None or past is None or past.rose is None or now - past.rose >= length:
            return 1.0
        return (floor((now - past.rose) / length * steps) + 1) / steps

    def next_step(self, key: Key, length: float | None, *, steps: int, now: float) -> float | None:
        """When the share increases next; None if it does not."""
        past = self._pasts.get(key)
        if length is None or past is None or past.rose is None or now - past.rose >= length:
            return None
        return past.rose + (floor((now - past.rose) / length * steps) + 1) * length / steps
