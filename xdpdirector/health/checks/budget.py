# SPDX-License-Identifier: Apache-2.0
"""The time of one try: for all of its work, whoever does it.

Who was late is told apart: a backend that did not answer has failed; a director whose loop had no turn for its
checks has not listened, and may say nothing about the backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xdpdirector.health.checks import CheckFailed, CheckImpossible

BEHIND = 0.25  # of the time: so late, the loop stood still
AT_LEAST = 0.1  # seconds; less is an ordinary delay
TOO_BUSY = "this director was too busy to listen to its checks"
"""The same words for all checks: they are told once, and not with each try of each backend."""

Late = Callable[[], CheckFailed | CheckImpossible]


@asynccontextmanager
async def budget(seconds: float, late: Late) -> AsyncIterator[None]:
    """The block has so many seconds; after that `late` says what is wrong."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    try:
        async with asyncio.timeout_at(until):
            yield
            if clock() > until:  # the block's last work gave the timer no turn
                raise TimeoutError
    except TimeoutError:
        behind = clock() - until
        if behind > max(AT_LEAST, BEHIND * seconds):
            raise CheckImpossible(TOO_BUSY) from None
        raise late() from None
