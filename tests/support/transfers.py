# SPDX-License-Identifier: Apache-2.0
"""Large transfers that run while something happens: whole, or the error that broke them.

A paced transfer moves all the time and slows down towards its end, so that it still runs when the test says
`finish`; then it goes as fast as it can. Knows connections; nothing of directors.
"""

import os
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from threading import Event
from typing import Self

from tests.support.lab_client import Conversation
from xdpdirector.lab import Lab
from xdpdirector.model import Address

MEGABYTE = 1 << 20
_CHUNKS = range(4096, 65536)
PAUSE = 0.01  # seconds between two chunks of a paced transfer


class Transfer(ABC):
    """In a thread of its own, on a connection that was there before."""

    def __init__(self, conversation: Conversation, *, paced: bool = True, pause: float = PAUSE) -> None:
        self.conversation = conversation
        self._pause = pause
        self._finish = Event()
        if not paced:
            self._finish.set()
        self._pool = ThreadPoolExecutor(1)
        self._done = self._pool.submit(self._carry)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.conversation.hang_up()
        self._finish.set()
        self._pool.shutdown()

    @property
    def running(self) -> bool:
        return not self._done.done()

    def finish(self, timeout: float = 20.0) -> str:
        """The SHA-256 of what arrived, or the OSError or HTTPException that ended it."""
        self._finish.set()
        return self._done.result(timeout)

    def error(self, timeout: float) -> BaseException | None:
        """What broke it, within so many seconds; TimeoutError when it still runs then."""
        return self._done.exception(timeout)

    @abstractmethod
    def _carry(self) -> str: ...

    def _next_size(self, left: int) -> int:
        """Waits as the pace says."""
        if self._finish.wait(self._pause):
            return _CHUNKS.stop
        return max(_CHUNKS.start, min(_CHUNKS.stop, left // 64))


class Download(Transfer):
    """GET /big."""

    def _carry(self) -> str:
        response, digest = self.conversation.ask("/big"), sha256()
        left = response.length or 0
        while left:
            data = response.read(self._next_size(left))
            digest.update(data)
            if not data:
                raise EOFError(f"{left} octets are missing")
            left -= len(data)
        return digest.hexdigest()


class Upload(Transfer):
    """PUT of random octets under a name."""

    def __init__(
        self,
        conversation: Conversation,
        name: str,
        content: bytes,
        *,
        paced: bool = True,
        pause: float = PAUSE,
    ) -> None:
        self._name, self._content = name, content
        super().__init__(conversation, paced=paced, pause=pause)

    def _carry(self) -> str:
        http, content = self.conversation.http, memoryview(self._content)
        http.putrequest("PUT", f"/{self._name}")
        http.putheader("Content-Length", str(len(content)))
        http.endheaders()
        while content:
            size = self._next_size(len(content))
            http.send(content[:size])
            content = content[size:]
        response = http.getresponse()
        response.read()
        assert response.status in (201, 204), response.status
        return sha256(self._content).hexdigest()


@cache
def random_octets(megabytes: int) -> bytes:
    return os.urandom(megabytes * MEGABYTE)


def large_transfers_arrive_whole(lab: Lab, vip: Address, megabytes: int) -> None:
    """An upload of that size, and then a download of /big, each on a connection of its own. AssertionError, or the
    error that broke them."""
    content = random_octets(megabytes)
    with Conversation(lab.client, vip) as conversation:
        with Upload(conversation, "sink-large", content, paced=False) as upload:
            upload.finish()
        received = lab.nginx(conversation.backend).received("sink-large")
    with Conversation(lab.client, vip) as conversation, Download(conversation, paced=False) as download:
        arrived = download.finish()
    assert received == content
    assert arrived == sha256((lab.record.directory / "big").read_bytes()).hexdigest()
