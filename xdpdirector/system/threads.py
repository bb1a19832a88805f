# SPDX-License-Identifier: Apache-2.0
"""Work in a thread that is waited for to its end, since what follows depends on what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def to_its_end(work: Callable[[], Result]) -> Result:
    """What the work gives. Who is cancelled meanwhile is cancelled when he waits for something again: a change that
    is stored by then is not taken back."""
    working, cancelled = asyncio.ensure_future(asyncio.to_thread(work)), False
    while not working.done():
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            if working.cancelled():
                raise
            cancelled = True
        except BaseException:
            break  # the work's own, raised below
    task = asyncio.current_task()
    if cancelled and task is not None:
        task.uncancel()
        asyncio.get_running_loop().call_soon(task.cancel)
    return working.result()
