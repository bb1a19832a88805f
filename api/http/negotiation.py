# SPDX-License-Identifier: Apache-2.0
"""Content negotiation (RFC 9110, section 12.5.1): media types that a client accepts, and those of an operation."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

JSON = "application/json"
_ANSWERS = {"application/problem+json"}  # what every operation can say


async def acceptable(request: Request) -> None:
    """406 when the client accepts none of the operation's media types."""
    route = request.scope.get("route")
    if isinstance(route, APIRoute):
        offered = offers(route)
        if offered:
            chosen(request, offered)


def offers(route: APIRoute) -> list[str]:
    """The media types of its successful answers; none when its own code decides."""
    said = route.responses.get(200, {}).get("content", {})
    standard = getattr(route.response_class, "value", route.response_class)
    media_type = getattr(standard, "media_type", None)
    return [*filter(None, [media_type]), *(kind for kind in said if kind != media_type)]


def chosen(request: Request, offered: Sequence[str]) -> str:
    """The one of `offered` with the highest quality value, the first of several."""
    ranges = _media_ranges(request.headers.get("accept", "*/*"))
    best = max(offered, key=lambda kind: _quality(kind, ranges))
    if _quality(best, ranges) > 0:
        return best
    if any(_quality(kind, ranges) > 0 for kind in _ANSWERS):
        return best  # a client that accepts problem documents gets the answer, too
    raise HTTPException(
        HTTPStatus.NOT_ACCEPTABLE, f"There is {' or '.join(offered)} here: accept one of these, or */*."
    )


def _media_ranges(field: str) -> dict[str, float]:
    """Quality values by media range."""
    ranges = {}
    for part in field.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((each.removeprefix("q=") for each in parameters if each.startswith("q=")), "1")
        try:
            ranges[kind] = float(weight)
        except ValueError:
            ranges[kind] = 0.0
    return ranges


def _quality(kind: str, ranges: dict[str, float]) -> float:
    """That of the most specific range."""
    for media_range in (kind, kind.partition("/")[0] + "/*", "*/*"):
        if media_range in ranges:
            return ranges[media_range]
    return 0.0
