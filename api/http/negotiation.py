# SPDX-License-Identifier: Apache-2.0
"""What a client takes for an answer (`Accept`, RFC 9110, section 12.5.1), and what an operation has."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

JSON = "application/json"
_ANSWERS = {"application/problem+json"}  # what every operation can say


async def acceptable(request: Request) -> None:
    """406 when the client takes nothing of what the operation has."""
    route = request.scope.get("route")
    if isinstance(route, APIRoute):
        offered = offers(route)
        if offered:
            chosen(request, offered)


def offers(route: APIRoute) -> list[str]:
    """The media types of its good answers; none when its own code decides."""
    said = route.responses.get(200, {}).get("content", {})
    standard = getattr(route.response_class, "value", route.response_class)
    media_type = getattr(standard, "media_type", None)
    return [*filter(None, [media_type]), *(kind for kind in said if kind != media_type)]


def chosen(request: Request, offered: Sequence[str]) -> str:
    """The one of `offered` that the client likes best, the first of several."""
    wishes = _wishes(request.headers.get("accept", "*/*"))
    best = max(offered, key=lambda kind: _liking(kind, wishes))
    if _liking(best, wishes) > 0:
        return best
    if any(_liking(kind, wishes) > 0 for kind in _ANSWERS):
        return best  # a client that wants problems wants what there may be a problem with
    raise HTTPException(
        HTTPStatus.NOT_ACCEPTABLE, f"There is {' or '.join(offered)} here: accept one of these, or */*."
    )


def _wishes(field: str) -> dict[str, float]:
    """Range -> its weight."""
    wishes = {}
    for part in field.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((each.removeprefix("q=") for each in parameters if each.startswith("q=")), "1")
        try:
            wishes[kind] = float(weight)
        except ValueError:
            wishes[kind] = 0.0
    return wishes


def _liking(kind: str, wishes: dict[str, float]) -> float:
    """The most exact range counts."""
    for wish in (kind, kind.partition("/")[0] + "/*", "*/*"):
        if wish in wishes:
            return wishes[wish]
    return 0.0
