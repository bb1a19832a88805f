# SPDX-License-Identifier: Apache-2.0
"""Long work on the event loop, in pieces between which others get their turn. Knows nothing of the work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TypeVar

STRETCH = 0.001  # seconds of the processor, after which others get their turn

Made = TypeVar("Made")


async def in_turns(pieces: Iterable[Made | None]) -> list[Made]:
    """All that is made; None is a piece of work with nothing to show yet."""
    made, begun = [], time.thread_time()
    for piece in pieces:
        if piece is not None:
            made.append(piece)
        if time.thread_time() - begun > STRETCH:
            await asyncio.sleep(0)
            begun = time.thread_time()
    return made
