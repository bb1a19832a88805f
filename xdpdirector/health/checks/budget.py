# SPDX-License-Identifier: Apache-2.0
"""The time limit of one probe, for all of its work.

Distinguishes who was late: a backend that did not answer has failed, while a director whose event loop did
not run its checks was not listening, and says nothing about the backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xdpdirector.health.checks import CheckFailed, CheckImpossible

BEHIND = 0.25  # of the time limit: beyond this delay, the event loop was blocked
AT_LEAST = 0.1  # seconds; shorter delays are normal
TOO_BUSY = "this director was too busy to listen to its checks"
"""The same text for all checks, so that it is logged once, not with each probe of each backend."""

Late = Callable[[], CheckFailed | CheckImpossible]


@asynccontextmanager
async def budget(seconds: float, late: Late) -> AsyncIterator[None]:
    """Limit the block to so many seconds; `late` returns the error to raise after that."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    try:
        async with asyncio.timeout_at(until):
            yield
            if clock() > until:  # the last work of the block gave the timer no turn
                raise TimeoutError
    except TimeoutError:
        behind = clock() - until
        if behind > max(AT_LEAST, BEHIND * seconds):
            raise CheckImpossible(TOO_BUSY) from None
        raise late() from None
