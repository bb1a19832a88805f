# SPDX-License-Identifier: Apache-2.0
"""Supervises the daemon's background tasks: work that never ends by itself is restarted when it does.

A task that raises, or returns, is logged, restarted after a back-off, and named in `problems` until it has run for
a while again. So is work that is done once, but for the restart, and an exception in a callback of the event loop,
which has no task. Whoever makes a task and does not wait for it makes it here. Knows nothing of what the tasks do.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

Work = Callable[[], Coroutine[Any, Any, None]]

FIRST_BACKOFF, LONGEST_BACKOFF = 1.0, 30.0  # seconds before a restart; doubled from failure to failure
SOUND_AFTER = 60.0  # seconds without a failure, after which an earlier one is a problem no more

log = logging.getLogger(__name__)


def first_cause(error: BaseException) -> BaseException:
    """The first error of a group, which says more than the group; another error is its own."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class BackgroundTasks:
    """`clock` gives seconds, monotonic; `sleep` waits for so many."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._failures: dict[str, tuple[float, str]] = {}

    def start(self, name: str, work: Work) -> asyncio.Task[None]:
        """Run `work` until the returned task is cancelled. `name` says what it does: "the connection sweep"."""
        return asyncio.get_running_loop().create_task(self._supervise(name, work), name=name)

    def once(self, name: str, work: Work) -> asyncio.Task[None]:
        """Run `work` to its end, which nobody waits for."""
        return asyncio.get_running_loop().create_task(self._try(name, work), name=name)

    def problems(self) -> list[str]:
        """A sentence for each task that failed less than SOUND_AFTER seconds ago."""
        now = self._clock()
        self._failures = {
            name: failure for name, failure in self._failures.items() if now - failure[0] < SOUND_AFTER
        }
        return [text for _, text in self._failures.values()]

    def watch_callbacks(self) -> None:
        """Treat exceptions in callbacks of the running loop as failures of a task."""
        asyncio.get_running_loop().set_exception_handler(self._on_callback_error)

    async def _supervise(self, name: str, work: Work) -> None:
        pause, backoff = 0.0, FIRST_BACKOFF
        while True:
            begun = self._clock()
            try:
                if pause:
                    await self._sleep(pause)
                    begun = self._clock()
                await work()
                why = "it ended"
            except Exception as error:
                cause = first_cause(error)
                why = f"{type(cause).__name__}: {cause}"
                log.exception("%s failed", name)
            if self._clock() - begun >= SOUND_AFTER:
                backoff = FIRST_BACKOFF
            self._note(name, f"{name} failed and is restarted: {why}")
            log.warning("%s is restarted in %g s", name, backoff)
            pause = backoff
            backoff = min(2 * backoff, LONGEST_BACKOFF)

    async def _try(self, name: str, work: Work) -> None:
        try:
            await work()
        except Exception as error:
            log.exception("%s failed", name)
            self._note(name, f"{name} failed: {type(error).__name__}: {error}")

    def _note(self, name: str, text: str) -> None:
        self._failures.pop(name, None)
        self._failures[name] = (self._clock(), text)

    def _on_callback_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception):
            self._note("callback", f"a callback of the event loop failed: {type(error).__name__}: {error}")
        loop.default_exception_handler(context)
