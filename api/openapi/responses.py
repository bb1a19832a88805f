# SPDX-License-Identifier: Apache-2.0
"""What the OpenAPI document promises of answers: the refusals of each operation, and the headers beside content.

Worked out from what an operation takes; which ones have an ETag stands in a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from xdpdirector.api.auth import roles
from xdpdirector.api.http import problems

Document = dict[str, Any]
TAGGED = frozenset(
    {
        "list_services",
        "get_service",
        "create_service",
        "replace_service",
        "patch_service",
        "list_backends",
        "list_all_backends",
        "drain_backends",
        "enable_backends",
        "maintain_backends",
        "get_backend",
        "create_backend",
        "put_backend",
        "patch_backend",
        "drain_backend",
        "enable_backend",
        "maintain_backend",
        "get_configuration",
        "replace_configuration",
        "roll_back",
        "list_denied",
        "replace_denied",
        "create_denial",
        "get_denial",
        "put_denial",
    }
)
_REFUSALS = {
    400: "It is no JSON, says something twice, or has text that is not Unicode",
    401: "There is no token, or none that is valid",
    403: "The role does not allow it",
    404: "There is no such thing",
    406: "There is nothing here in a form that is accepted",
    409: "It conflicts with what exists",
    412: "It is not what If-Match or If-None-Match ask for",
    413: "The body is too large",
    415: "The body is no JSON",
    422: "A value, or a parameter, is not valid",
    429: "Too much was asked: again after Retry-After",
    503: "It cannot be done now: again after Retry-After, where that is said",
    504: "What was waited for did not happen in time",
    507: "The data plane has no room for it",
}
_LATER = frozenset({429, 503})
_HEADERS: Document = {
    "ETag": {
        "description": "Names what is wanted there, for If-Match. Health and counters do not change it.",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where the new thing is", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds, after which it may be asked again",
        "schema": {"type": "integer"},
    },
}


_PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""As RFC 9110 has them: Python's own changed in 3.13."""


def promised(document: Document) -> Document:
    """The same document, changed in place."""
    components = document["components"]
    components["headers"] = _HEADERS
    components["responses"] = {_name(status): _refusal(status) for status in _REFUSALS}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            answers = operation["responses"]
            answers.pop("422", None)
            for status in _refusals(path, method, operation):
                answers.setdefault(str(status), {"$ref": f"#/components/responses/{_name(status)}"})
            for status, answer in answers.items():
                if status in ("200", "201") and operation["operationId"] in TAGGED:
                    _add_header(answer, "ETag")
                if status == "201":
                    _add_header(answer, "Location")
            operation["responses"] = dict(sorted(answers.items()))
    components["schemas"].pop("HTTPValidationError", None)
    components["schemas"].pop("ValidationError", None)
    return document


def _refusals(path: str, method: str, operation: Document) -> Iterator[int]:
    yield 422  # of a parameter that it does not have
    yield 400
    if operation["operationId"] in roles.OPEN and "requestBody" not in operation:
        yield 429
        return
    yield from (401, 403, 429, 503)
    if "{" in path:
        yield 404
    if "406" not in operation["responses"] and method != "delete":
        yield 406
    if "requestBody" in operation:
        yield from (413, 415)
    parameters = {parameter["name"] for parameter in operation.get("parameters", ())}
    if "if-match" in parameters:
        yield from (409, 412, 507)
    elif "dry_run" in parameters:
        yield 409
    if parameters & {"timeout", "drain"}:
        yield 504


def _name(status: int) -> str:
    phrase = _PHRASES.get(status, HTTPStatus(status).phrase)
    return "".join(word.capitalize() for word in phrase.replace("-", " ").split())


def _refusal(status: int) -> Document:
    content = {"application/problem+json": {"schema": problems.REFERENCE}}
    made: Document = {"description": _REFUSALS[status], "content": content}
    if status in _LATER:
        _add_header(made, "Retry-After")
    return made


def _add_header(answer: Document, name: str) -> None:
    answer.setdefault("headers", {})[name] = {"$ref": f"#/components/headers/{name}"}
