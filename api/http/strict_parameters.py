# SPDX-License-Identifier: Apache-2.0
"""Refuses what would be ignored: query parameters that an operation does not have, and those that are given twice.

A client that writes `?dry_rum=true` must not delete, and of two values it is not known which one is meant. Knows
what each operation declares, nothing of what it does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, get_origin

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import APIRoute

from xdpdirector.errors import InvalidRequestError, RepeatedError

LISTS = frozenset({"if-match", "if-none-match"})
"""Headers whose several lines are one list (RFC 9110, section 5.3)."""


class UnknownParameterError(InvalidRequestError):
    """`parameter`: the one that the operation does not have."""

    def __init__(self, detail: str, parameter: str) -> None:
        super().__init__(detail)
        self.parameter = parameter


class _Declared(NamedTuple):
    """What an operation has; of those in `several` there may be more than one."""

    query: frozenset[str]
    headers: frozenset[str]
    several: frozenset[str]


_DECLARED: dict[Callable[..., Any], _Declared] = {}
"""By endpoint; there are as many as there are operations."""


async def strict(request: Request) -> None:
    """InvalidRequestError for a query parameter that is unknown; RepeatedError for what stands twice."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute):
        return
    declared = _DECLARED.get(route.endpoint) or _DECLARED.setdefault(route.endpoint, _declared(route))
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in declared.query:
            raise UnknownParameterError(_unknown(name, sorted(declared.query)), name)
    _once("query parameter", (name for name in names if name not in declared.several))
    fields = (name.decode("latin-1") for name, _ in request.headers.raw)
    _once("header", (name for name in fields if name in declared.headers))


def one_header(request: Request, name: str) -> str | None:
    """RepeatedError when there are several."""
    found = request.headers.getlist(name)
    _once("header", [name] * len(found))
    return found[0] if found else None


def _once(kind: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise RepeatedError(f"the {kind} '{name}' stands twice: send one")
        seen.add(name)


def _declared(route: APIRoute) -> _Declared:
    query, headers, several = set(), set(), set()
    for field in get_flat_params(route.dependant):
        where = getattr(field.field_info, "in_", None)
        if where is not None and where.value == "query":
            query.add(field.alias)
            if _is_list(field.field_info.annotation):
                several.add(field.alias)
        elif where is not None and where.value == "header":
            headers.add(field.alias.lower())
    return _Declared(frozenset(query), frozenset(headers - LISTS) | {"content-type"}, frozenset(several))


def _is_list(annotation: object) -> bool:
    """Also beside None."""
    inside = getattr(annotation, "__args__", ())
    return get_origin(annotation) is list or any(get_origin(each) is list for each in inside)


def _unknown(name: str, known: list[str]) -> str:
    shown = name if len(name) <= 60 else f"{name[:57]}..."
    if not known:
        return f"there is no query parameter '{shown}': this operation has none"
    from difflib import get_close_matches  # of those who made a mistake

    if close := get_close_matches(name[:60], known, 1):
        return f"there is no query parameter '{shown}': did you mean '{close[0]}'?"
    return f"there is no query parameter '{shown}' here: this operation has {', '.join(known)}"
