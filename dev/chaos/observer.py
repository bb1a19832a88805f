# SPDX-License-Identifier: Apache-2.0
"""Listens to what the director says of itself during a run, over restarts. Knows nothing of what is done to it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from dev.chaos.disturbances import UNREACHABLE
from xdpdirector.client import Client
from xdpdirector.errors import DirectorError

AGAIN = 0.1  # seconds until it asks again where nobody answers


@dataclass(frozen=True)
class Said:
    """An event: problems are events, too. `at`: when it was heard; seconds of the monotonic clock."""

    at: float
    kind: str
    text: str


class Observer:
    """Inside the block it listens."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._heard: list[Said] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="observer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The thread ends with the daemon at the latest."""
        self._ending.set()

    def heard(self) -> list[Said]:
        return list(self._heard)

    def _listen(self) -> None:
        """One connection as long as it lasts: also a daemon without descriptors goes on with it."""
        after: str | None = None
        while not self._ending.is_set():
            try:
                for message in self._client.stream("/v1/events", {"follow": "true"}, after=after):
                    after = message.id or after
                    found = json.loads(message.data)
                    self._note(message.event, str(found.get("text", "")))
            except DirectorError:
                pass  # it is noted below, as is a stream that ends
            if not self._ending.is_set():
                self._note(UNREACHABLE, UNREACHABLE)
                time.sleep(AGAIN)

    def _note(self, kind: str, text: str) -> None:
        before = self._heard[-1] if self._heard else None
        if kind == UNREACHABLE and before and before.kind == UNREACHABLE:
            self._heard[-1] = Said(time.monotonic(), kind, text)
        else:
            self._heard.append(Said(time.monotonic(), kind, text))
