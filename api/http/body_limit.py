# SPDX-License-Identifier: Apache-2.0
"""What a request's body may be: JSON, and not larger than the client's role allows. A plain ASGI layer; it
knows no route."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xdpdirector.model.access import Role

LARGEST_BODY = 1 << 20
LARGEST_UNAUTHENTICATED = 4 << 10
LARGEST_BY_ROLE = {Role.READ: 16 << 10, Role.OPERATE: 64 << 10}
"""Administrators send whole documents. Others send a query, or change a backend."""


class BodyLimit:
    """Counts what arrives instead of trusting content-length alone: a chunked body has none."""

    def __init__(self, app: ASGIApp, limit: int = LARGEST_BODY) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, received = Headers(scope=scope), 0
        identity = scope.get("state", {}).get("identity")
        largest = LARGEST_BY_ROLE.get(identity.role, self._limit) if identity else LARGEST_UNAUTHENTICATED
        limit = min(self._limit, largest)

        async def counted() -> Message:
            nonlocal received
            if _declared(headers) > limit:
                raise _too_large(limit)
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            if received and not _is_json(headers.get("content-type", "")):
                raise _not_json()
            return message

        await self._app(scope, counted, send)


def _declared(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isdigit() else 0


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def _not_json() -> HTTPException:
    return HTTPException(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be JSON: send content-type: application/json."
    )


def _too_large(limit: int) -> HTTPException:
    return HTTPException(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is larger than {limit} bytes: send less at a time."
    )
