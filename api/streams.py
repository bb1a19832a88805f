# SPDX-License-Identifier: Apache-2.0
"""How many server-sent streams may run at once. Knows nothing of what they say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request

from xdpdirector.errors import OverloadedError

MOST = 32


async def _stream(request: Request) -> AsyncIterator[None]:
    """A place among them for as long as the response takes; OverloadedError when there is none."""
    state = request.app.state
    running = getattr(state, "streams", 0)
    if running >= MOST:
        raise OverloadedError(f"{MOST} streams run already, which is the most: end one of them first")
    state.streams = running + 1
    try:
        yield
    finally:
        state.streams -= 1


Stream = Annotated[None, Depends(_stream)]
