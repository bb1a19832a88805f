# SPDX-License-Identifier: Apache-2.0
"""Server-sent streams: how many may run at once, and how one ends. Knows nothing of what they say."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Annotated

from anyio import BrokenResourceError
from fastapi import Depends, Request

from xdpdirector.errors import OverloadedError

MOST = 32
log = logging.getLogger(__name__)


async def _stream(request: Request) -> AsyncIterator[None]:
    """A place among them for as long as the response takes; OverloadedError when there is none."""
    state = request.app.state
    running = getattr(state, "streams", 0)
    if running >= MOST:
        raise OverloadedError(f"{MOST} streams run already, which is the most: end one of them first")
    state.streams = running + 1
    try:
        yield
    except* BrokenResourceError:
        # The client left in the middle. FastAPI (0.165) then closes the pipe to it before it ends who writes there.
        log.debug("a client left its stream")
    finally:
        state.streams -= 1


Stream = Annotated[None, Depends(_stream)]
