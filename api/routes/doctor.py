# SPDX-License-Identifier: Apache-2.0
"""/v1/doctor: the machine, the network and the daemon, each with evidence and remedy, as `xdpdirector doctor` says.

The daemon hands in the doctor. One examination at a time, for all clients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal

from fastapi import Request

from xdpdirector.api.http.request_models import Items
from xdpdirector.api.routers import new_router
from xdpdirector.model.fields import Frozen

KEPT = 2.0  # seconds for which a result is used again

router = new_router(prefix="/v1/doctor", tags=["network"])


class Diagnosis(Frozen):
    """`remedy` is empty where nothing needs to be done."""

    topic: str
    level: Literal["ok", "note", "warning", "error"]
    text: str
    evidence: str
    remedy: str


Examine = Callable[[], Sequence[dict[str, str]]]


class Doctor:
    """`examine` looks at everything; it takes a second of another thread, and asks this API itself."""

    def __init__(self, examine: Examine) -> None:
        self._examine = examine
        self._turn = asyncio.Lock()
        self._found: tuple[float, list[Diagnosis]] | None = None

    async def findings(self) -> list[Diagnosis]:
        async with self._turn:
            if self._found is None or time.monotonic() - self._found[0] > KEPT:
                found = await asyncio.to_thread(self._examine)
                self._found = time.monotonic(), [Diagnosis.model_validate(each) for each in found]
            return self._found[1]


@router.get("")
async def get_doctor(request: Request) -> Items[Diagnosis]:
    """Look at everything that the director stands on. The daemon looks as the user that it is: what only root
    sees, it says that it cannot see."""
    doctor: Doctor = request.app.state.doctor
    return Items(items=await doctor.findings())
