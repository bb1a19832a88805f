# SPDX-License-Identifier: Apache-2.0
"""Publishes an event when the wall clock is stepped: times before and after it cannot be compared."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from xdpdirector.control.events import Events

JUMP = 2.0  # seconds; NTP moves it by less at a time, or slowly


class WallClock:
    """`wall` and `monotonic` give seconds."""

    def __init__(
        self,
        events: Events,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events, self._wall, self._monotonic = events, wall, monotonic
        self._apart = wall() - monotonic()

    def look(self) -> None:
        """To be called again and again."""
        before, self._apart = self._apart, self._wall() - self._monotonic()
        jumped = self._apart - before
        if abs(jumped) >= JUMP:
            by = timedelta(seconds=round(abs(jumped)))
            way = "forward" if jumped > 0 else "back"
            text = f"the wall clock jumped by {by} {way}: times before and after do not fit each other"
            self._events.publish("director.clock-jumped", "director", text, seconds=round(jumped, 1))
