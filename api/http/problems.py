# SPDX-License-Identifier: Apache-2.0
"""RFC 9457 problem documents for every error, and the one table of HTTP status codes.

Nobody else in the project knows a status code of an error. `errors` lists each fault with a JSON pointer
(RFC 6901) into the request's body, or with the name of the parameter.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from xdpdirector import errors
from xdpdirector.api.http.strict_parameters import UnknownParameterError
from xdpdirector.api.http.validation_errors import Fault, faults, not_json

log = logging.getLogger(__name__)
TYPE = "urn:xdpdirector:problem:"
STATUS: dict[type[errors.DirectorError], HTTPStatus] = {
    errors.DirectorError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.InvalidRequestError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.NotUnicodeError: HTTPStatus.BAD_REQUEST,
    errors.RepeatedError: HTTPStatus.BAD_REQUEST,
    errors.NotFoundError: HTTPStatus.NOT_FOUND,
    errors.ConflictError: HTTPStatus.CONFLICT,
    errors.StaleError: HTTPStatus.PRECONDITION_FAILED,
    errors.UnreachableError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TimedOutError: HTTPStatus.GATEWAY_TIMEOUT,
    errors.NotAllowedError: HTTPStatus.FORBIDDEN,
    errors.NotAuthenticatedError: HTTPStatus.UNAUTHORIZED,
    errors.OverloadedError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.TooManyRequestsError: HTTPStatus.TOO_MANY_REQUESTS,
    errors.CapacityError: HTTPStatus.INSUFFICIENT_STORAGE,
    errors.DataplaneError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
}
_SLUGS = {  # errors that have no class: phrases differ between releases of Python, these words do not
    HTTPStatus.BAD_REQUEST: "invalid",
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method-not-allowed",
    HTTPStatus.NOT_ACCEPTABLE: "not-acceptable",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too-large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "unsupported-media-type",
}


class Problem(BaseModel):
    """An RFC 9457 problem; `type` ends in a stable word such as `conflict`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[Fault] = []


REFERENCE = {"$ref": "#/components/schemas/Problem"}
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Any error, as an RFC 9457 problem",
        "content": {"application/problem+json": {"schema": REFERENCE}},
    }
}


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(errors.DirectorError, _director_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(UnicodeEncodeError, _unicode_error)
    app.add_exception_handler(Exception, _unexpected_error)


def status_of(kind: type[errors.DirectorError]) -> HTTPStatus:
    """The status of an error class: its own row, or that of its nearest parent."""
    return next(STATUS[parent] for parent in kind.__mro__ if parent in STATUS)


def answer(
    request: Request,
    status: int,
    slug: str,
    title: str,
    detail: str,
    *,
    faults: Sequence[Fault] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """A problem as a response; `errors` is left out when there is none."""
    problem = Problem(
        type=TYPE + slug,
        title=title,
        status=status,
        detail=detail,
        instance=request.url.path,
        errors=list(faults),
    )
    return Response(
        json.dumps(problem.model_dump(exclude_defaults=True)),  # ASCII: what it quotes may be no Unicode
        status_code=status,
        media_type="application/problem+json",
        headers=headers,
    )


def of_error(request: Request, error: errors.DirectorError) -> Response:
    """The problem document of an error."""
    parameter = error.parameter if isinstance(error, UnknownParameterError) else None
    named = error.pointer is not None or parameter is not None
    faults = [Fault(detail=error.detail, pointer=error.pointer, parameter=parameter)] if named else []
    status, headers = status_of(type(error)), {}
    if isinstance(error, errors.OverloadedError):
        headers["retry-after"] = str(error.retry_after)
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s %s: %s", request.method, request.url.path, error.detail)
    if isinstance(error, errors.NotAuthenticatedError):
        headers["www-authenticate"] = 'Bearer realm="xdpdirector"'
    return answer(request, status, error.slug, error.title, error.detail, faults=faults, headers=headers)


async def _director_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.DirectorError)
    return of_error(request, error)


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    broken = not_json(error)
    found = [broken] if broken else faults(request, error)
    for item in error.errors():
        _forget_frames(item.get("ctx", {}).get("error"))
    status = HTTPStatus.BAD_REQUEST if broken else HTTPStatus.UNPROCESSABLE_ENTITY
    kind = errors.InvalidRequestError
    return answer(request, status, kind.slug, kind.title, _sentence(found), faults=found)


async def _http_error(request: Request, error: Exception) -> Response:
    """Errors that the framework raises by itself: unknown path, wrong method, body too large."""
    assert isinstance(error, HTTPException)
    _forget_frames(error.__cause__)
    status, path = HTTPStatus(error.status_code), request.url.path
    details = {
        HTTPStatus.NOT_FOUND: f"There is nothing at {path}: /openapi.json lists what there is.",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not possible on {path}.",
    }
    detail = details.get(status, status.phrase) if error.detail == status.phrase else error.detail
    slug = _SLUGS.get(status, "http")
    return answer(request, status, slug, status.phrase, detail, headers=dict(error.headers or {}))


async def _unicode_error(request: Request, error: Exception) -> Response:
    """Of parameters and headers; bodies are looked at before (unicode_text.py)."""
    kind = errors.NotUnicodeError
    detail = (
        "The request has text that is not Unicode: a surrogate (\\ud800 to \\udfff) without its other half."
    )
    return answer(request, HTTPStatus.BAD_REQUEST, kind.slug, kind.title, detail)


async def _unexpected_error(request: Request, error: Exception) -> Response:
    """A bug of ours: the server logs the traceback, the client learns nothing about the inside."""
    kind = errors.DirectorError
    detail = "The director met an error that it does not know. Its log has the details."
    return answer(request, HTTPStatus.INTERNAL_SERVER_ERROR, kind.slug, kind.title, detail)


def _forget_frames(raised: object) -> None:
    """What a validator or parser raised stands in the list of faults, or is the cause of another error, and those
    stand in a frame of its traceback: a cycle, which would have to be collected with all that the frames know."""
    while isinstance(raised, BaseException):
        raised.__traceback__, raised = None, raised.__cause__ or raised.__context__


def _sentence(faults: Sequence[Fault], shown: int = 3) -> str:
    rest = f" (and {len(faults) - shown} more)" if len(faults) > shown else ""
    return "; ".join(fault.detail for fault in faults[:shown]) + rest
