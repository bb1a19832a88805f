# SPDX-License-Identifier: Apache-2.0
"""Finds callbacks of the event loop that take long, for tests and for who looks for the reason of a stall.

What counts is the processor time of the loop's own thread: how long others kept the processor is no fault of a
callback. A collection of garbage keeps the loop from running, whichever thread it comes in: it counts by itself.
Off unless it is asked for, as it costs a little with each callback.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

VARIABLE = "XDPDIRECTOR_LONGEST_CALLBACK"
"""Of the environment: seconds, beyond which the daemon's log tells of a callback."""

Tell = Callable[[float, str], None]
log = logging.getLogger(__name__)


@contextmanager
def telling(longest: float, tell: Tell, *, collections: bool = False) -> Iterator[None]:
    """For the length of the block, `tell` hears of each callback that used more seconds than that: how many, and
    which. The collection of garbage, which comes when it comes, is not put down to whom it meets; with
    `collections` it is told of as well."""
    run, begun_at = asyncio.Handle._run, [0.0]
    collected: defaultdict[int, float] = defaultdict(float)  # seconds by thread: a loop may run in any

    def collecting(phase: str, about: dict[str, int]) -> None:
        if phase == "start":
            begun_at[0] = time.thread_time()
            return
        used = time.thread_time() - begun_at[0]
        collected[threading.get_ident()] += used
        if collections and used > longest:
            tell(used, f"a collection of garbage, generation {about['generation']},")

    def timed(handle: asyncio.Handle) -> None:
        what = getattr(handle, "_callback", None)  # gone once it is cancelled
        thread = threading.get_ident()
        begun, before = time.thread_time(), collected[thread]
        run(handle)
        used = time.thread_time() - begun - (collected[thread] - before)
        if used > longest:
            tell(used, _name(what))

    gc.callbacks.append(collecting)
    asyncio.Handle._run = timed  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]
        gc.callbacks.remove(collecting)


@contextmanager
def as_the_environment_says(environment: Callable[[str], str | None]) -> Iterator[None]:
    """Tells the log, if anybody asked for it."""
    text = environment(VARIABLE)
    if not text:
        yield
        return
    with telling(
        float(text),
        lambda used, what: log.warning("%s took %.1f ms of the loop", what, used * 1e3),
        collections=True,
    ):
        yield


def _name(callback: Any) -> str:
    """A task's by its coroutine."""
    task = getattr(callback, "__self__", None)
    if isinstance(task, asyncio.Task):
        coroutine = task.get_coro()
        return getattr(coroutine, "__qualname__", repr(coroutine))
    return getattr(callback, "__qualname__", repr(callback))
