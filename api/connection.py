# SPDX-License-Identifier: Apache-2.0
"""One client's connection: uvicorn's HTTP/1.1, which waits for no client for ever, and answers with problems.

A client that does not finish its request, or does not take its answer, costs a connection for a bounded time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from xdpdirector.api.identity import Peer
from xdpdirector.api.problems import TYPE

LARGEST_HEAD = 16 << 10
LONGEST_LOOK = 1.0  # seconds that one look may put down to the client; there are ten a second


@dataclass(frozen=True)
class Patience:
    """Seconds: until a request must be there with its body, and how long a client may take nothing of its answer.
    `idle`: between two requests. `handshake`: of TLS."""

    request: float = 15.0
    answer: float = 20.0
    idle: int = 30
    handshake: float = 5.0


class Connection(H11Protocol):
    """`on_lost` is called once, when the connection has ended."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        peer: Peer,
        patience: Patience,
        on_lost: Callable[[], None],
    ) -> None:
        super().__init__(config, state, {"peer": peer})
        self._patience, self._on_lost = patience, on_lost
        self._arriving = self._untouched = 0.0
        self._looked_at: float | None = None
        self._untaken, self._last_cycle = 0, self.cycle

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._on_lost()

    def check(self, now: float) -> None:
        """To be called now and then: ends the connection when the client has used up the patience.

        Only what passes between two looks that follow on each other is put down to the client: while the daemon was
        busy, or the machine asleep, it could not be served. So no clock is compared with a reading from before."""
        passed = min(now - self._looked_at, LONGEST_LOOK) if self._looked_at is not None else 0.0
        self._looked_at = now
        untaken = self.transport.get_write_buffer_size()
        idle = untaken == 0 or untaken < self._untaken or self._untaken == 0
        self._untouched = 0.0 if idle else self._untouched + passed
        self._untaken = untaken
        receives = self.cycle is self._last_cycle and self._is_receiving()
        self._arriving, self._last_cycle = self._arriving + passed if receives else 0.0, self.cycle
        if self._untouched > self._patience.answer:
            self.transport.abort()
        elif self._arriving > self._patience.request and not self.transport.is_closing():
            self._give_up()

    def _is_receiving(self) -> bool:
        """A request is expected, or has begun and is not complete. Between two requests nothing is expected."""
        if self.conn.their_state is h11.IDLE:
            return self.cycle is None or bool(self.conn.trailing_data[0])
        return self.conn.their_state is h11.SEND_BODY

    def _give_up(self) -> None:
        if self.conn.our_state is h11.IDLE:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive.")
        else:  # it is being answered, to whatever came of its body
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's name for the answer to what is no HTTP."""
        self._refuse(
            HTTPStatus.BAD_REQUEST,
            f"That is no HTTP/1.1 request, or its head is larger than {LARGEST_HEAD} bytes.",
        )

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.write(problem(status, detail))
        self.transport.close()


def problem(status: HTTPStatus, detail: str, slug: str = "invalid") -> bytes:
    """A whole answer, for those who get no further than here."""
    document = {
        "type": TYPE + slug,
        "title": status.phrase,
        "status": int(status),
        "detail": detail,
        "instance": "",
    }
    body = json.dumps(document).encode()
    head = (
        f"HTTP/1.1 {int(status)} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
