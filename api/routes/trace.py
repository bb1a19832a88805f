# SPDX-License-Identifier: Apache-2.0
"""/v1/trace: the decision about each packet, as server-sent events."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Query

from xdpdirector.api.deps import DirectorDep
from xdpdirector.api.director_interface import Control
from xdpdirector.api.http.read_queue import ReaderDep
from xdpdirector.api.http.sse_limit import (
    ALIVE,
    ALIVE_EVERY,
    EventStream,
    Stream,
    message,
)
from xdpdirector.api.routers import new_router
from xdpdirector.control.trace_sessions import Watcher
from xdpdirector.dataplane.trace_types import MOST, Decision, Selection
from xdpdirector.errors import InvalidRequestError
from xdpdirector.model.fields import Frozen
from xdpdirector.model.guard import PrefixField
from xdpdirector.model.listener import Address

LONGEST = 86400.0  # seconds

router = new_router(prefix="/v1/trace", tags=["trace"])


class DecisionView(Frozen):
    """`reason` as in the verdicts of /v1/stats. `backend`: whom it speaks of. `frame`: base64 of the first bytes,
    as the frame left, or, when it was dropped, as it came; `length`: of all of it."""

    time: datetime
    client: Address
    client_port: int
    vip: Address
    port: int
    protocol: str
    flags: str
    verdict: str
    reason: str
    service: str | None
    backend: str | None
    interface: str | None
    length: int
    frame: str | None = None


Services = Annotated[list[str] | None, Query(description="Only of these services")]
Backend = Annotated[
    str, Query(pattern=r"^([^/]+/[^/]+)?$", description="Only of this backend: SERVICE/BACKEND")
]
Client = Annotated[
    PrefixField | None,
    Query(description="Only of this client: an address, or a network such as 192.0.2.0/24"),
]
Reasons = Annotated[
    str,
    Query(
        pattern=r"^([a-z]+(_[a-z0-9]+)*(,[a-z]+(_[a-z0-9]+)*)*)?$",
        description="Only with these reasons, with commas between: `drop_denied`, or `drop` for all that begin so",
    ),
]
Rate = Annotated[
    int, Query(ge=1, le=MOST, description="Not more than so many a second; what is more is missed")
]
OneIn = Annotated[int, Query(ge=1, le=1_000_000, description="Of those that match one in so many, at random")]
Frames = Annotated[bool, Query(description="With the frames' first bytes")]
Count = Annotated[int | None, Query(ge=1, description="End after so many")]
Seconds = Annotated[float, Query(gt=0, le=LONGEST, description="End after so long")]


async def _watcher(
    director: DirectorDep,
    service: Services = None,
    backend: Backend = "",
    client: Client = None,
    reason: Reasons = "",
    rate: Rate = 100,
    one_in: OneIn = 1,
) -> AsyncIterator[Watcher]:
    """Errors come before the stream begins."""
    selection = Selection(
        services=_services(director, service or [], backend),
        backend=_backend(director, backend),
        client=client,
        reasons=_reasons(director, reason),
        rate=rate,
        one_in=one_in,
    )
    with director.tracing.watch(selection) as watcher:
        yield watcher


@router.get("", response_class=EventStream)
async def follow_decisions(
    watcher: Annotated[Watcher, Depends(_watcher)],
    reader: ReaderDep,
    stream: Stream,
    frames: Frames = False,
    count: Count = None,
    seconds: Seconds = LONGEST,
) -> AsyncIterator[bytes]:
    """What becomes of packets: `decision` events, and `missed` for how many there were too many of. It costs the
    packets of the services that are watched a little, and ends with the stream."""
    left, until = count, time.monotonic() + seconds
    while not watcher.ended and left != 0 and (rest := until - time.monotonic()) > 0:
        missed, found = await watcher.take(min(rest, ALIVE_EVERY))
        block = message("missed", json.dumps({"count": missed})) if missed else b""
        block += await reader.in_a_stream(_sent(found[:left], frames))
        yield block or ALIVE
        left = None if left is None else max(0, left - len(found))


def _sent(found: Iterable[Decision], frames: bool) -> Iterator[bytes]:
    for decision in found:
        yield message("decision", _view(decision, frames).model_dump_json())


def _services(director: Control, names: list[str], backend: str) -> frozenset[str]:
    """NotFoundError for one that does not exist."""
    for name in names:
        director.service(name)
    return frozenset(names or [backend.partition("/")[0]] if backend else names)


def _backend(director: Control, text: str) -> tuple[str, str] | None:
    if not text:
        return None
    service, _, name = text.partition("/")
    director.backend(service, name)
    return service, name


def _reasons(director: Control, text: str) -> frozenset[str]:
    """InvalidRequestError for a word that is neither a reason nor a verdict: nothing would ever come."""
    known = director.vitals().verdicts
    verdicts = {name.partition("_")[0] for name in known}
    asked = frozenset(filter(None, text.split(",")))
    if unknown := asked - verdicts - known.keys():
        raise InvalidRequestError(
            f"'{min(unknown)}' is no reason: write one of {', '.join(sorted(verdicts))}, or of {', '.join(known)}"
        )
    return asked


def _view(decision: Decision, frames: bool) -> DecisionView:
    fields = vars(decision) | {
        "time": datetime.fromtimestamp(decision.time, UTC),
        "verdict": decision.verdict,
        "frame": base64.b64encode(decision.frame).decode() if frames else None,
    }
    return DecisionView(**fields)
