# SPDX-License-Identifier: Apache-2.0
"""What of one OpenAPI document a client would miss in another. Pure; knows nothing of this API."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]
_METHODS = ("get", "put", "post", "delete", "patch")


def breaking(before: Json, after: Json) -> list[str]:
    """What a client of `before` may miss in `after`, a sentence each: operations, parameters, fields and answers
    that went, what became required, values that are not taken or not sent any more."""
    return sorted(set(_breaking(before, after)))


def _breaking(before: Json, after: Json) -> Iterator[str]:
    for path, item in before["paths"].items():
        for method in _METHODS:
            if method not in item:
                continue
            place, later = f"{method.upper()} {path}", after["paths"].get(path, {}).get(method)
            if later is None:
                yield f"{place} is gone"
            else:
                yield from _operation(place, item[method], later, _Schemas(before, after))


def _operation(place: str, before: Json, after: Json, schemas: _Schemas) -> Iterator[str]:
    if before["operationId"] != after["operationId"]:
        yield f"{place}: its operation id is not {before['operationId']} any more"
    yield from _parameters(place, before, after, schemas)
    yield from _request(place, before.get("requestBody", {}), after.get("requestBody", {}), schemas)
    for status, answer in before.get("responses", {}).items():
        later = after.get("responses", {}).get(status)
        if later is None:
            yield f"{place}: the answer {status} is gone"
            continue
        for kind, content in answer.get("content", {}).items():
            if kind not in later.get("content", {}):
                yield f"{place}: the answer {status} is no {kind} any more"
                continue
            yield from schemas.answer(
                f"{place}: answer {status}",
                content.get("schema", {}),
                later["content"][kind].get("schema", {}),
            )


def _parameters(place: str, before: Json, after: Json, schemas: _Schemas) -> Iterator[str]:
    earlier, later = (_by_name(operation.get("parameters", [])) for operation in (before, after))
    for (kind, name), parameter in earlier.items():
        if (kind, name) not in later:
            yield f"{place}: the {kind} parameter {name} is gone"
        else:
            now = later[kind, name]
            yield from schemas.request(f"{place}: parameter {name}", parameter["schema"], now["schema"])
    for (kind, name), parameter in later.items():
        was_required = earlier.get((kind, name), {}).get("required", False)
        if parameter.get("required") and not was_required:
            yield f"{place}: the {kind} parameter {name} is required now"


def _by_name(parameters: list[Json]) -> dict[tuple[str, str], Json]:
    return {(each["in"], each["name"]): each for each in parameters}


def _request(place: str, before: Json, after: Json, schemas: _Schemas) -> Iterator[str]:
    if after.get("required") and not before.get("required"):
        yield f"{place}: a body is required now"
    for kind, content in before.get("content", {}).items():
        if kind not in after.get("content", {}):
            yield f"{place}: a body of {kind} is not taken any more"
        else:
            yield from schemas.request(
                f"{place}: body", content.get("schema", {}), after["content"][kind].get("schema", {})
            )


class _Schemas:
    """Compares schemas of the two documents, each pair once."""

    def __init__(self, before: Json, after: Json) -> None:
        self._before, self._after = before, after
        self._seen: set[tuple[str, str, str]] = set()

    def request(self, place: str, before: Json, after: Json) -> Iterator[str]:
        """What may be sent must be taken: nothing new may be required, no value refused that was taken."""
        yield from self._compare("request", place, before, after)

    def answer(self, place: str, before: Json, after: Json) -> Iterator[str]:
        """What was in an answer must be there: no field may go, none may become optional."""
        yield from self._compare("answer", place, before, after)

    def _compare(self, way: str, place: str, before: Json, after: Json) -> Iterator[str]:
        mark = (way, json.dumps(before, sort_keys=True), json.dumps(after, sort_keys=True))
        if mark in self._seen:
            return
        self._seen.add(mark)
        before, after = _followed(self._before, before), _followed(self._after, after)
        yield from self._values(way, place, before, after)
        yield from self._fields(way, place, before, after)
        for part in ("items", "additionalProperties"):
            if isinstance(before.get(part), dict) and isinstance(after.get(part), dict):
                yield from self._compare(way, place, before[part], after[part])
        yield from self._branches(way, place, before, after)

    def _values(self, way: str, place: str, before: Json, after: Json) -> Iterator[str]:
        earlier, later = _types(before), _types(after)
        fewer, more = (earlier - later, later) if way == "request" else (later - earlier, earlier)
        if earlier and later and fewer and not ("number" in more and fewer == {"integer"}):
            yield f"{place}: its type was {_or(earlier)}, and is {_or(later)}"
        for value in before.get("enum", []) if way == "request" else ():
            if "enum" in after and value not in after["enum"]:
                yield f"{place}: the value {value} is not taken any more"

    def _fields(self, way: str, place: str, before: Json, after: Json) -> Iterator[str]:
        earlier, later = before.get("properties", {}), after.get("properties", {})
        for name, schema in earlier.items():
            if name in later:
                yield from self._compare(way, f"{place}: {name}", schema, later[name])
            elif later:
                yield f"{place}: the field {name} is gone"
        if way == "request":
            for name in set(after.get("required", [])) - set(before.get("required", [])):
                yield f"{place}: the field {name} is required now"
        else:
            for name in set(before.get("required", [])) - set(after.get("required", [])):
                if name in later:
                    yield f"{place}: the field {name} is not always there any more"

    def _branches(self, way: str, place: str, before: Json, after: Json) -> Iterator[str]:
        """Of a choice of schemas, pairs that have the same name, or stand at the same place."""
        for kind in ("anyOf", "oneOf", "allOf"):
            earlier, later = before.get(kind, []), after.get(kind, [])
            named = dict(zip(_names(later), later, strict=True))
            for name, schema in zip(_names(earlier), earlier, strict=True):
                if name in named:
                    yield from self._compare(way, place, schema, named[name])
                elif later and way == "request":
                    yield f"{place}: {name} is not taken any more"


def _followed(document: Json, schema: Json) -> Json:
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _name(schema: Mapping[str, Any], number: int) -> str:
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    kind = schema.get("properties", {}).get("type", {})
    for choice in (kind, *kind.get("anyOf", ())):
        if "const" in choice:  # a variant of a union that `type` tells apart
            return str(choice["const"])
    return str(schema.get("const", schema.get("type", schema.get("format", number))))


def _names(schemas: list[Json]) -> list[str]:
    """One for each; places, where several would have the same."""
    names = [_name(schema, number) for number, schema in enumerate(schemas)]
    return names if len(set(names)) == len(names) else [str(number) for number in range(len(names))]


def _types(schema: Json) -> set[str]:
    said = schema.get("type", [])
    return {said} if isinstance(said, str) else set(said)


def _or(types: set[str]) -> str:
    return " or ".join(sorted(types))
