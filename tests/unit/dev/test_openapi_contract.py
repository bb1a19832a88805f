# SPDX-License-Identifier: Apache-2.0
"""The committed OpenAPI document is that of the source, and breaks nothing that was released."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from dev import openapi_contract as contract
from dev.openapi_diff import Json, breaking

CHECKOUT = Path(__file__).parents[3]


def committed() -> Json:
    document: Json = json.loads(contract.DOCUMENT.read_text())
    return document


def released() -> Json:
    """The document of the last release (tag) that has one; before the first, there is no promise but today's."""
    tags = git("tag", "--merged", "HEAD", "--sort=-creatordate").split()
    for tag in tags:
        text = git("show", f"{tag}:api/openapi.json")
        if text:
            document: Json = json.loads(text)
            return document
    return committed()


def git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", CHECKOUT, *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # no git, so no history to ask
        return ""
    return done.stdout if done.returncode == 0 else ""


def test_the_committed_document_is_current() -> None:
    assert contract.DOCUMENT.read_text() == contract.text(contract.current()), (
        f"the API changed: write its document anew with {contract.COMMAND} and commit it"
    )


def test_nothing_that_was_released_breaks() -> None:
    assert breaking(released(), contract.current()) == []


def test_operations_have_ids_of_their_own() -> None:
    operations = [
        each["operationId"] for path in contract.current()["paths"].values() for each in path.values()
    ]

    assert sorted(set(operations)) == sorted(operations)


SHAPES: list[Json] = [
    {"type": "object", "properties": {"a": {}}},
    {"type": "object", "properties": {"b": {}, "c": {}}},
]
BEFORE: Json = {
    "paths": {
        "/things": {
            "get": {
                "operationId": "list_things",
                "parameters": [
                    {"in": "query", "name": "limit", "schema": {"type": "integer"}},
                    {"in": "query", "name": "kind", "schema": {"type": "string", "enum": ["a", "b"]}},
                ],
                "responses": {
                    "200": {
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}
                    }
                },
            },
            "post": {
                "operationId": "create_thing",
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewThing"}}}
                },
                "responses": {"201": {}, "default": {}},
            },
        }
    },
    "components": {
        "schemas": {
            "Thing": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Part"}},
                    "owner": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
            },
            "Part": {
                "type": "object",
                "properties": {"size": {"type": "integer"}, "colour": {"type": "string"}},
            },
            "NewThing": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "weight": {"type": ["string", "number"]},
                    "form": {"anyOf": SHAPES},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Part"}},
                },
            },
        }
    },
}

GET, POST = ("paths", "/things", "get"), ("paths", "/things", "post")
THING, NEW, PART = (("components", "schemas", name) for name in ("Thing", "NewThing", "Part"))
Change = Callable[[Json], Any]


def at(document: Json, *path: Any) -> Any:
    found: Any = document
    for part in path:
        found = found[part]
    return found


BREAKS: dict[str, tuple[Change, list[str]]] = {
    "nothing": (lambda d: None, []),
    "a new operation": (lambda d: d["paths"].update({"/more": {"get": at(d, *GET)}}), []),
    "a new optional field": (lambda d: at(d, *NEW, "properties").update({"new": {"type": "string"}}), []),
    "a new field in an answer": (lambda d: at(d, *THING, "properties").update({"new": {}}), []),
    "more is taken": (lambda d: at(d, *NEW, "properties", "name").update(type=["string", "null"]), []),
    "an operation goes": (lambda d: at(d, *GET[:2]).pop("post"), ["POST /things is gone"]),
    "a path goes": (
        lambda d: d["paths"].pop("/things"),
        ["GET /things is gone", "POST /things is gone"],
    ),
    "an id changes": (
        lambda d: at(d, *GET).update(operationId="get_things"),
        ["GET /things: its operation id is not list_things any more"],
    ),
    "a parameter goes": (
        lambda d: at(d, *GET, "parameters").pop(0),
        ["GET /things: the query parameter limit is gone"],
    ),
    "a parameter is required": (
        lambda d: at(d, *GET, "parameters", 0).update(required=True),
        ["GET /things: the query parameter limit is required now"],
    ),
    "a value is not taken": (
        lambda d: at(d, *GET, "parameters", 1, "schema", "enum").remove("b"),
        ["GET /things: parameter kind: the value b is not taken any more"],
    ),
    "a field of an answer goes": (
        lambda d: at(d, *THING, "properties").pop("owner"),
        ["GET /things: answer 200: the field owner is gone"],
    ),
    "a field deep in an answer and a body goes": (
        lambda d: at(d, *PART, "properties").pop("colour"),
        [
            "GET /things: answer 200: parts: the field colour is gone",
            "POST /things: body: parts: the field colour is gone",
        ],
    ),
    "a field becomes optional": (
        lambda d: at(d, *THING).update(required=[]),
        ["GET /things: answer 200: the field name is not always there any more"],
    ),
    "a field of a branch goes": (
        lambda d: at(d, *NEW, "properties", "form", "anyOf", 1, "properties").pop("b"),
        ["POST /things: body: form: the field b is gone"],
    ),
    "a field becomes required": (
        lambda d: at(d, *NEW, "required").append("weight"),
        ["POST /things: body: the field weight is required now"],
    ),
    "a type is not taken": (
        lambda d: at(d, *NEW, "properties", "weight").update(type="string"),
        ["POST /things: body: weight: its type was number or string, and is string"],
    ),
    "another type is sent": (
        lambda d: at(d, *THING, "properties", "name").update(type="integer"),
        ["GET /things: answer 200: name: its type was string, and is integer"],
    ),
    "an answer goes": (
        lambda d: at(d, *POST, "responses").pop("201"),
        ["POST /things: the answer 201 is gone"],
    ),
    "an answer has another form": (
        lambda d: at(d, *GET, "responses", "200").update(content={"text/csv": {}}),
        ["GET /things: the answer 200 is no application/json any more"],
    ),
    "a body becomes required": (
        lambda d: at(d, *POST, "requestBody").update(required=True),
        ["POST /things: a body is required now"],
    ),
}


@pytest.mark.parametrize(
    ("change", "sentences"), [pytest.param(*row, id=name) for name, row in BREAKS.items()]
)
def test_what_breaks_clients_is_named(change: Change, sentences: list[str]) -> None:
    after = deepcopy(BEFORE)

    change(after)

    assert breaking(BEFORE, after) == sentences


def test_a_union_may_grow_in_the_middle() -> None:
    """Its variants, inline ones too, are told apart by the constant of `type`."""

    def variant(kind: str, field: str) -> Json:
        said = {"anyOf": [{"const": kind, "type": "string"}, {"type": "null"}]}
        return {"type": "object", "properties": {"type": said, field: {}}}

    before, after = deepcopy(BEFORE), deepcopy(BEFORE)
    at(before, *NEW, "properties", "form")["anyOf"] = [variant("a", "x"), variant("c", "z")]
    at(after, *NEW, "properties", "form")["anyOf"] = [variant(*each) for each in ("ax", "by", "cz")]

    assert breaking(before, after) == []
