# SPDX-License-Identifier: Apache-2.0
"""The `http` check: GET; compares status and body, and reads the requested weight.

Reads the response to its end, so that the server logs no broken connection, but at most 64 KiB. h11
implements the protocol; this module must not know how the connection was made.
"""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus

import h11

from xdpdirector.health.checks import CheckFailed, Dial, Target
from xdpdirector.health.checks.agent_weight import share_of
from xdpdirector.health.checks.excerpts import excerpt
from xdpdirector.health.checks.stream import LIMIT, PIECE, Channel, channel
from xdpdirector.model.checks import CheckSpec, HttpBase, HttpCheck

HEAD = 16384
AT_ONCE = 64  # small pieces that are read before other tasks of the event loop run
_PHRASES = {each.value: each.phrase for each in HTTPStatus}
_TOO_LARGE = 431  # h11's status for data that exceeds its buffer
_BYTES = re.compile(r"""bytearray\(b('[^']*'|"[^"]*")\)""")


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> float | None:
    """Succeeds if the whole response, or 64 KiB of it, arrives in time and is as expected."""
    assert isinstance(spec, HttpCheck)
    async with channel(spec, target, dial) as talk:
        return await ask(talk, spec, usual_port=80)


async def ask(talk: Channel, spec: HttpBase, *, usual_port: int) -> float | None:
    """Exchange request and response; returns the share of its weight that the server requests."""
    exchange = _Exchange(talk, spec)
    await talk.send(exchange.question(usual_port))
    response = await exchange.response()
    exchange.judge_status(response)
    talk.expected = f"the end of its answer to {exchange.request}"
    body = await exchange.body()
    if spec.body is not None and not await talk.contains(spec.body, body):
        raise CheckFailed(f"the answer of {talk.target} to {exchange.request} does not contain '{spec.body}'")
    return exchange.share(response)


class _Exchange:
    """One request and its response."""

    def __init__(self, talk: Channel, spec: HttpBase) -> None:
        self._talk, self._spec = talk, spec
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD)
        self._begin = b""
        self._pieces = 0
        self.request = f"GET {spec.path}"
        talk.expected = f"an answer to {self.request}"

    def question(self, usual_port: int) -> bytes:
        target = self._talk.target
        host = f"[{target.address}]" if target.address.version == 6 else str(target.address)
        host = self._spec.host or (host if target.port == usual_port else f"{host}:{target.port}")
        headers = [("Host", host), ("User-Agent", "xdpdirector"), ("Accept", "*/*"), ("Connection", "close")]
        head = self._http.send(h11.Request(method="GET", target=self._spec.path, headers=headers))
        return (head or b"") + (self._http.send(h11.EndOfMessage()) or b"")

    async def response(self) -> h11.Response:
        """The final response; 1xx responses before it are skipped."""
        while not isinstance(event := await self._event(), h11.Response):
            if event is None:
                raise CheckFailed(
                    f"{self._talk.target} answered {self.request} with 64 KiB of headers, which is too much"
                )
        return event

    def judge_status(self, response: h11.Response) -> None:
        status = response.status_code
        if status in self._spec.status:
            return
        answered = f"{status} {_PHRASES.get(status, '')}".strip()
        wanted = " or ".join(str(number) for number in self._spec.status)
        raise CheckFailed(f"{self._talk.target} answered {answered} to {self.request}, expected {wanted}")

    async def body(self) -> bytes:
        parts = []
        while isinstance(event := await self._event(), h11.Data):
            parts.append(bytes(event.data))
        return b"".join(parts)

    def share(self, response: h11.Response) -> float | None:
        wanted = (self._spec.weight_header or "").lower().encode()
        said = next((value for name, value in response.headers if name == wanted), None)
        if said is None:
            return None
        share = share_of(said.decode("ascii", "replace"))
        if share is None:
            raise CheckFailed(
                f"{self._talk.target} sent {self._spec.weight_header}: {excerpt(said)}, expected like '75%'"
            )
        return share

    async def _event(self) -> object:
        """The next event of the response; None after 64 KiB."""
        self._pieces += 1
        if self._pieces % AT_ONCE == 0:
            await asyncio.sleep(0)
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                why = self._why_not(error)
                raise CheckFailed(why) from error.with_traceback(None)  # h11's frames refer to it: a cycle
            if event is not h11.NEED_DATA:
                return event
            if self._talk.received >= LIMIT:
                return None
            data = await self._talk.receive(min(PIECE, LIMIT - self._talk.received))
            self._begin = (self._begin + data)[:40]
            self._http.receive_data(data)

    def _why_not(self, error: Exception) -> str:
        target = self._talk.target
        if getattr(error, "error_status_hint", 0) == _TOO_LARGE:
            return f"{target} answered {self.request} with more than 16 KiB of headers, which is too much"
        if not self._begin:
            return f"{target} closed the connection without an answer to {self.request}"
        if self._begin.startswith(b"HTTP/1."):
            return f"the answer of {target} to {self.request} is broken: {_BYTES.sub(_unquoted, str(error))[:160]}"
        return f"the answer of {target} is not HTTP: it begins with {excerpt(self._begin)}"


def _unquoted(match: re.Match[str]) -> str:
    r"""h11 shows bytes in Python syntax: bytearray(b'zz\r\n')."""
    return f"'{match[1][1:-1]}'"
