# SPDX-License-Identifier: Apache-2.0
"""Large bodies, looked at beside the loop as long reads are: parsed, and validated by the model that the endpoint
takes.

Faults are reported up to a bounded number. A valid body is handed to the endpoint as it is, and not validated
again. Knows no route.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from xdpdirector.api.http.json_body import JsonRequest, parsed
from xdpdirector.api.http.read_queue import reader_of
from xdpdirector.config.messages import MOST_FAULTS

AT_ONCE = 4096  # octets of a body that the loop looks at itself
_NOTHING = object()


class Field(Protocol):
    """What FastAPI validates a body with."""

    def validate(
        self, value: Any, values: dict[str, Any] = ..., *, loc: tuple[int | str, ...] = ...
    ) -> tuple[Any, list[dict[str, Any]]]: ...


async def look_at(request: JsonRequest, field: Field | None, check: Callable[[bytes], None]) -> None:
    """Hands the request its document. RequestValidationError, RepeatedError, and what `check` raises. What is no
    JSON at all is left to the framework."""
    body = await request.body()
    if len(body) <= AT_ONCE:
        found = _read(body, check)
    else:
        found = await reader_of(request).read(lambda: _looked_at(body, field, check))
    if found is not _NOTHING:
        request.take(found)


def _read(body: bytes, check: Callable[[bytes], None]) -> object:
    try:
        document = parsed(body)
    except (ValueError, RecursionError):
        return _NOTHING
    check(body)
    return document


def _looked_at(body: bytes, field: Field | None, check: Callable[[bytes], None]) -> object:
    document = _read(body, check)
    if field is None or document is _NOTHING:
        return document
    found, errors = field.validate(document, {}, loc=("body",))
    if errors:
        raise RequestValidationError(errors[:MOST_FAULTS], body=document)
    return found if isinstance(found, BaseModel) else document
