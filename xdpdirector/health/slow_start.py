# SPDX-License-Identifier: Apache-2.0
"""A backend that returns gets its weight back by and by, so that a cold cache is not run over. Pure: the time
is the caller's, in monotonic seconds.

    not serving --(serves again)--> ramping --(slow_start passed)--> serving
    new in a running service --(serves)--> ramping
    there from the service's start --(serves)--> serving: all are cold then, and somebody must do the work

In steps: few for a scheduler with a ring, where each step moves slots.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import floor

from xdpdirector.model import Key

STEPS, RING_STEPS = 10, 5


@dataclass
class _Past:
    serving: bool
    returns: bool
    """Whether its next rise is a return."""
    rose: float | None = None


class SlowStart:
    """By backend. `see` is told what is, `share` says what part of its weight a backend has."""

    def __init__(self) -> None:
        self._pasts: dict[Key, _Past] = {}

    def know(self, keys: Collection[Key], *, cold: bool) -> None:
        """Backends that are followed from now on; `cold`: the others of their service serve already."""
        for key in keys:
            self._pasts.setdefault(key, _Past(serving=False, returns=cold))

    def forget(self, keys: Collection[Key]) -> None:
        """Nobody follows these any more."""
        for key in keys:
            self._pasts.pop(key, None)

    def see(self, key: Key, serving: bool, now: float) -> None:
        """Whether it takes connections, as far as health and the operator have a say."""
        past = self._pasts.setdefault(key, _Past(serving=False, returns=False))
        if serving and not past.serving:
            past.rose = now if past.returns else None
        elif past.serving and not serving:
            past.returns, past.rose = True, None
        past.serving = serving

    def share(self, key: Key, length: float | None, *, steps: int, now: float) -> float:
        """From 1/steps to 1; `length`: seconds that the whole takes, None for no slow start."""
        past = self._pasts.get(key)
        if length is None or past is None or past.rose is None or now - past.rose >= length:
            return 1.0
        return (floor((now - past.rose) / length * steps) + 1) / steps

    def next_step(self, key: Key, length: float | None, *, steps: int, now: float) -> float | None:
        """When the share grows next; None when it does not."""
        past = self._pasts.get(key)
        if length is None or past is None or past.rose is None or now - past.rose >= length:
            return None
        return past.rose + (floor((now - past.rose) / length * steps) + 1) * length / steps
