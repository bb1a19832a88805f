# SPDX-License-Identifier: Apache-2.0
"""One client's connection: uvicorn's HTTP/1.1 protocol with timeouts, which reports errors as problem documents.

A client that does not finish its request, or does not read its answer, keeps a connection for a bounded time.
"""

from __future__ import annotations

import asyncio
import json
import select
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from xdpdirector.api.auth.identity import Peer
from xdpdirector.api.http.problems import TYPE
from xdpdirector.api.server import proxy_protocol
from xdpdirector.api.server.connection_limits import AdmittedConnection
from xdpdirector.system import transports

LARGEST_HEAD = 16 << 10
_BESIDE = len(": \r\n")
LONGEST_LOOK = 1.0  # seconds that one call of `check` counts at most; there are ten calls a second


@dataclass(frozen=True)
class Timeouts:
    """Seconds. `request`: until a request has arrived with its body. `answer`: without progress in sending an
    answer. `idle`: between two requests. `handshake`: of TLS. `unauthenticated`: for `request` and `idle`, until
    the client is authenticated."""

    request: float = 15.0
    answer: float = 20.0
    idle: int = 30
    handshake: float = 5.0
    unauthenticated: int = 5


class _Heads(h11.Connection):
    """h11 bounds what is not complete yet only: a long head that arrives in one piece gets through."""

    def next_event(self) -> Any:
        try:
            event = super().next_event()
        except h11.RemoteProtocolError as error:
            raise error.with_traceback(None)  # noqa: B904 h11's frames refer to the error: a cycle
        if isinstance(event, h11.Request):
            octets = sum(len(name) + len(value) + _BESIDE for name, value in event.headers)
            if len(event.method) + len(event.target) + octets > LARGEST_HEAD:
                raise h11.RemoteProtocolError("the head is too large", error_status_hint=431)
        return event


class Connection(H11Protocol):
    """`admitted`: its entry in the connection counts. `on_lost` is called once, when the connection has ended."""

    def __init__(
        self,
        config: Config,
        state: ServerState,
        peer: Peer,
        timeouts: Timeouts,
        admitted: AdmittedConnection,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config, state, {"peer": peer, "line": self})
        self.gone = asyncio.Event()
        """Set when the client has left."""
        self._admitted = admitted
        if not admitted.is_authenticated:
            self.timeout_keep_alive = min(self.timeout_keep_alive, timeouts.unauthenticated)
        self.conn = _Heads(h11.SERVER, LARGEST_HEAD)
        self._timeouts, self._on_lost = timeouts, on_lost
        self._arriving = self._untouched = 0.0
        self._looked_at: float | None = None
        self._carrier: asyncio.BaseTransport | None = None
        self._untaken, self._last_cycle = 0, self.cycle
        self._is_relayed: bool | None = None if peer.uid is not None else False
        """Unknown until a process of this host has said enough."""
        self._head = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._carrier = transports.carrier(transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.gone.set()
        self._admitted.leave()
        self._on_lost()
        self._unset_keepalive_if_required()
        self._break_cycles()

    def _break_cycles(self) -> None:
        """What refers back to this connection would stay until the garbage collector looks through all objects, and
        the loop stands still meanwhile."""
        self.cycle = self._last_cycle = self.scope = None  # type: ignore[assignment]
        self.app_state = {}  # requests under way have copies
        if self._carrier is not None:
            transports.release(self._carrier)

    def data_received(self, data: bytes) -> None:
        """A relay, a local process that forwards remote connections, sends a PROXY protocol header first."""
        if self._is_relayed is None:
            self._head += data
            if proxy_protocol.may_begin(self._head) and len(self._head) <= proxy_protocol.LONGEST:
                return
            self._is_relayed, data = self._take_relay(), self._head
            self._head = b""
            if not data:
                return
        super().data_received(data)

    def _take_relay(self) -> bool:
        """A relayed connection has none of the rights of the relay."""
        found = proxy_protocol.read(self._head)
        if found is None:
            return False
        (host, port), self._head = found.source, found.rest
        self.app_state["peer"] = Peer(host, port, relay=str(self._admitted.peer))
        return True

    def authenticated(self, *, privileged: bool) -> None:
        """See `xdpdirector.api.auth.access_control.ClientConnection`."""
        if not self._admitted.is_authenticated:
            self._admitted.authenticated(privileged=privileged)
            self.timeout_keep_alive = self._timeouts.idle

    def abort(self) -> None:
        """A connection limit needs its place."""
        self.transport.abort()

    def check(self, now: float) -> None:
        """To be called regularly: ends the connection when a timeout has expired.

        Between two calls at most LONGEST_LOOK counts: while the daemon was busy, or the machine suspended, the
        client could not be served."""
        passed = min(now - self._looked_at, LONGEST_LOOK) if self._looked_at is not None else 0.0
        self._looked_at = now
        untaken = self.transport.get_write_buffer_size()
        idle = untaken == 0 or untaken < self._untaken or self._untaken == 0
        self._untouched = 0.0 if idle else self._untouched + passed
        self._untaken = untaken
        receives = self.cycle is self._last_cycle and self._is_receiving()
        self._arriving, self._last_cycle = self._arriving + passed if receives else 0.0, self.cycle
        if self._untouched > self._timeouts.answer:
            self.transport.abort()
        elif self._arriving > self._longest_request and not self.transport.is_closing():
            self._give_up()

        elif self.flow.read_paused and self._has_left():
            self.transport.abort()

    @property
    def _longest_request(self) -> float:
        return self._timeouts.request if self._admitted.is_authenticated else self._timeouts.unauthenticated

    def _has_left(self) -> bool:
        """Whether the client has closed it while reading is paused, so that the transport does not notice."""
        ends = self.transport.get_extra_info("socket")
        if ends is None or self.transport.is_closing():
            return False
        polling = select.poll()
        polling.register(ends.fileno(), select.POLLRDHUP)
        return bool(polling.poll(0))

    def _is_receiving(self) -> bool:
        """The first request is expected, or a request has begun and is not complete."""
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
