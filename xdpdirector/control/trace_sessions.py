# SPDX-License-Identifier: Apache-2.0
"""Trace sessions: the data plane traces packets while there is a session, and a few seconds longer.

The data plane gets one selection, the union of all sessions; each session filters its own packets. Knows nothing of
HTTP. Runs on one asyncio loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from itertools import count
from typing import Self

from xdpdirector.dataplane.interface import Plane
from xdpdirector.dataplane.trace_types import Decision, Selection, union
from xdpdirector.errors import DirectorError
from xdpdirector.system.background_tasks import BackgroundTasks

LOOK_APART = 0.1  # seconds between two reads
LASTS = 3.0  # seconds that the data plane traces without a renewal
RENEW_EVERY = 10  # reads
AT_ONCE = 2000  # decisions in one read
KEPT = 5000  # for a watcher that is slow

log = logging.getLogger(__name__)


class TraceSessions:
    """All sessions. `close` ends them."""

    def __init__(self, plane: Plane, tasks: BackgroundTasks | None = None) -> None:
        self._plane, self._tasks = plane, tasks or BackgroundTasks()
        self._watchers: set[Watcher] = set()
        self._anybody = asyncio.Event()
        """Set while there is a watcher."""
        self._looking: asyncio.Task[None] | None = None
        self.closed = False

    def watch(self, selection: Selection) -> Watcher:
        """Use it in a `with`."""
        return Watcher(self, selection)

    async def close(self) -> None:
        self.stop()
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def stop(self) -> None:
        """Sessions get what is left, and end."""
        self.closed = True
        for watcher in self._watchers:
            watcher.news.set()

    def join(self, watcher: Watcher) -> None:
        """Called by `Watcher`. DataplaneError when the data plane cannot trace."""
        self._watchers.add(watcher)
        try:
            self._ask()
        except BaseException:
            self._watchers.discard(watcher)
            raise
        self._anybody.set()
        if self._looking is None:
            self._looking = self._tasks.start("the look at traced packets", self._look)

    def leave(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        if not self._watchers:
            self._anybody.clear()
        try:
            self._ask()
        except DirectorError as error:  # it ends by itself soon
            log.warning("the data plane traces for some seconds more: %s", error)

    def _ask(self) -> None:
        wanted = union([each.selection for each in self._watchers]) if self._watchers else None
        self._plane.watch(wanted, LASTS)

    async def _look(self) -> None:
        for turn in count(1):
            await self._anybody.wait()
            await asyncio.sleep(LOOK_APART)
            self._once(renew=turn % RENEW_EVERY == 0)

    def _once(self, *, renew: bool) -> None:
        try:
            if renew and self._watchers:
                self._ask()
            missed, found = self._plane.decisions(AT_ONCE)
        except DirectorError as error:  # looked at again
            log.warning("decisions cannot be traced: %s", error)
            return
        for watcher in self._watchers:
            watcher.offer(missed, found)


class Watcher:
    """One session and the decisions that it has not taken yet. A slow one loses the oldest, and learns how many."""

    def __init__(self, tracing: TraceSessions, selection: Selection) -> None:
        self.selection = selection
        self.news = asyncio.Event()
        self._tracing = tracing
        self._kept: deque[Decision] = deque()
        self._missed = 0
        self._second, self._used = 0, 0

    def __enter__(self) -> Self:
        self._tracing.join(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._tracing.leave(self)

    @property
    def ended(self) -> bool:
        return self._tracing.closed

    def offer(self, missed: int, found: list[Decision]) -> None:
        """Decisions that the data plane reported."""
        self._missed += missed
        for decision in found:
            if self.selection.has(decision):
                self._keep(decision)
        if self._kept or self._missed:
            self.news.set()

    def _keep(self, decision: Decision) -> None:
        if self._second != int(decision.time):
            self._second, self._used = int(decision.time), 0
        self._used += 1
        if self._used > self.selection.rate:
            self._missed += 1
            return
        if len(self._kept) == KEPT:
            self._kept.popleft()
            self._missed += 1
        self._kept.append(decision)

    async def take(self, within: float) -> tuple[int, list[Decision]]:
        """How many were missed, and what there is; waits so many seconds for something."""
        try:
            async with asyncio.timeout(within):
                await self.news.wait()
        except TimeoutError:
            return 0, []
        if not self.ended:
            self.news.clear()
        missed, self._missed = self._missed, 0
        found = list(self._kept)
        self._kept.clear()
        return missed, found
