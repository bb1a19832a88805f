# SPDX-License-Identifier: Apache-2.0
"""Idempotency-Key: a POST that is sent again, since its answer was lost on the way, is answered and not done again.

A key belongs to who sent it. Only successes are kept: a request that failed has changed nothing, and may be tried
again. After draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, FastAPI, Header, Request, Response

from xdpdirector.api.deps import IntentDep
from xdpdirector.api.routers import Handler, TextRoute
from xdpdirector.errors import ConflictError, ReusedKeyError, StoreError
from xdpdirector.storage.idempotency_store import Answer, Answers
from xdpdirector.system.threads import to_its_end

log = logging.getLogger(__name__)
_KEPT_HEADERS = ("content-type", "location", "etag")
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="The same key with the same request within 24 hours: the same answer, and nothing done twice",
    ),
]


class _GivenBeforeError(Exception):
    """No error: the way out of a handler that need not run."""

    def __init__(self, answer: Answer) -> None:
        super().__init__("answered before")
        self.answer = answer


@dataclass
class _Requests:
    """`running`: key -> request, of those that are carried out just now."""

    answers: Answers
    running: dict[str, str]


def install(app: FastAPI, answers: Answers) -> None:
    app.state.idempotency = _Requests(answers, {})
    app.add_exception_handler(_GivenBeforeError, _again)


async def _look_up(request: Request, intent: IntentDep, key: Key = None) -> None:
    """Only of a request whose headers are sound, so that one that is not gets no answer of another's."""
    if key is None:
        return
    requests: _Requests = request.app.state.idempotency
    name = _digest(intent.author, key)
    asked = _digest(request.method, request.url.path, request.url.query, await request.body())
    reused = ReusedKeyError(
        f"the Idempotency-Key '{key}' came with another request before: use a new key for a new request"
    )
    if name in requests.running:
        if requests.running[name] != asked:
            raise reused
        raise ConflictError("the same request is being carried out: ask again in a moment")
    requests.running[name] = asked
    request.state.idempotency = (name, "")  # as long as it has the second, nothing is kept
    known = await to_its_end(partial(requests.answers.find, name))
    if known and known.request != asked:
        raise reused
    if known:
        raise _GivenBeforeError(known)
    request.state.idempotency = (name, asked)


IdempotentDep = Depends(_look_up)


class IdempotentRoute(TextRoute):
    """Keeps the answers to requests that `IdempotentDep` looked up."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def kept(request: Request) -> Response:
            requests: _Requests = request.app.state.idempotency
            try:
                response = await handle(request)
                name, asked = getattr(request.state, "idempotency", ("", ""))
                if asked and 200 <= response.status_code < 300:
                    await to_its_end(partial(_keep, requests.answers, name, asked, response))
                return response
            finally:
                requests.running.pop(getattr(request.state, "idempotency", ("", ""))[0], None)

        return kept


def _keep(answers: Answers, name: str, asked: str, response: Response) -> None:
    headers = {field: response.headers[field] for field in _KEPT_HEADERS if field in response.headers}
    try:
        answers.keep(name, Answer(asked, response.status_code, headers, bytes(response.body)))
    except StoreError as error:  # the change is made and stored: that counts
        log.warning("an answer cannot be kept for when it is asked for again: %s", error.detail)


async def _again(request: Request, error: Exception) -> Response:
    assert isinstance(error, _GivenBeforeError)
    headers = {**error.answer.headers, "idempotent-replayed": "true"}
    return Response(error.answer.body, status_code=error.answer.status, headers=headers)


def _digest(*parts: str | bytes) -> str:
    octets = [part.encode() if isinstance(part, str) else part for part in parts]
    return sha256(b"".join(len(part).to_bytes(8, "big") + part for part in octets)).hexdigest()
