# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a request, in the project's own sentences: those that the configuration file has, too.

What may be there is known from the endpoint's own types. Knows no status codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, get_args, get_type_hints

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter
from pydantic_core import ErrorDetails

from xdpdirector.config.messages import problems_in

Schema = dict[str, Any]


class Fault(BaseModel):
    """One thing that is wrong: where it stands, and what."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


def not_json(error: RequestValidationError) -> Fault | None:
    """Why the body cannot even be read; None when it can."""
    broken = next((item for item in error.errors() if item["type"] == "json_invalid"), None)
    if broken is None:
        return None
    return Fault(detail=f"the body is not JSON: {broken.get('ctx', {}).get('error', broken['msg'])}")


def faults(request: Request, error: RequestValidationError) -> list[Fault]:
    """All that is wrong: parameters first, then the body in the model's order."""
    items = error.errors()
    of_parameters = [item for item in items if item["loc"][0] != "body"]
    of_body = [item for item in items if item["loc"][0] == "body"]
    if any(item["type"] == "missing" and len(item["loc"]) == 1 for item in of_body):
        missing = Fault(detail="the request has no body: send a JSON document", pointer="")
        return [*_parameter_faults(request, of_parameters), missing]
    return [*_parameter_faults(request, of_parameters), *_body_faults(request, of_body, error.body)]


def _body_faults(request: Request, items: Sequence[Mapping[str, Any]], body: object) -> list[Fault]:
    route = request.scope.get("route")
    schema = _body_schema(route.endpoint) if isinstance(route, APIRoute) else {}
    found = problems_in(_inside(items), body, schema)
    return [Fault(detail=problem.sentence, pointer=problem.pointer) for problem in found]


def _parameter_faults(request: Request, items: Sequence[Mapping[str, Any]]) -> list[Fault]:
    if not items:
        return []
    values = {item["loc"][1]: item["input"] for item in items}
    route = request.scope.get("route")
    types = _types(route.endpoint) if isinstance(route, APIRoute) else {}
    schemas = {name: _schema(types[name]) for name in values if name in types}
    parts = {part: each for schema in schemas.values() for part, each in schema.get("$defs", {}).items()}
    schema = {"properties": schemas, "$defs": parts}
    found = problems_in(_inside(items), values, schema)
    return [Fault(detail=problem.sentence, parameter=str(problem.path[0])) for problem in found]


def _inside(items: Sequence[Mapping[str, Any]]) -> list[ErrorDetails]:
    """The same, with places that begin in the body, or at the parameter."""
    return [ErrorDetails(**{**item, "loc": tuple(item["loc"][1:])}) for item in items]  # type: ignore[typeddict-item]


@lru_cache(maxsize=64)
def _body_schema(endpoint: Any) -> Schema:
    """Of the model that the endpoint takes as `body`; nothing is known of a patch."""
    wanted = _types(endpoint).get("body")
    model = next((kind for kind in (wanted, *get_args(wanted)) if _is_model(kind)), None)
    return model.model_json_schema() if model else {}


def _is_model(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


@lru_cache(maxsize=64)
def _types(endpoint: Any) -> dict[str, Any]:
    return get_type_hints(endpoint, include_extras=True)


def _schema(kind: Any) -> Schema:
    return TypeAdapter(kind).json_schema()
