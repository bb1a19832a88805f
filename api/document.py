# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document where the framework's is not all of the truth: errors, roles, parameters. Knows no route."""

from __future__ import annotations

from typing import Any

from xdpdirector.api import problems, roles

Document = dict[str, Any]
_NULL = {"type": "null"}


def completed(document: Document) -> Document:
    """With the schema of problems, which all errors are, and with what an operation needs."""
    schema = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"].update({**schema.pop("$defs"), "Problem": schema})
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    for operation in (each for path in document["paths"].values() for each in path.values()):
        operation |= roles.security(operation["operationId"])
        if any(each["name"] == "dry_run" for each in operation.get("parameters", ())):
            _answer_a_plan(operation["responses"])
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
    return document


def _answer_a_plan(responses: Document) -> None:
    """200, where a change that is only tried is answered."""
    plan = {"$ref": "#/components/schemas/Plan"}
    if "200" not in responses:
        content = {"application/json": {"schema": plan}}
        responses["200"] = {"description": "With `dry_run`: what would change", "content": content}
        return
    content = responses["200"]["content"]["application/json"]
    if content["schema"] != plan:
        content["schema"] = {"anyOf": [content["schema"], plan]}
        responses["200"]["description"] += "; with `dry_run` what would change, as a plan"


def _without_null(schema: Document) -> Document:
    """A parameter can be left out, but there is no way to write null in a header or a query."""
    branches = [branch for branch in schema.get("anyOf", ()) if branch != _NULL]
    if len(branches) == len(schema.get("anyOf", ())):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return rest | (branches[0] if len(branches) == 1 else {"anyOf": branches})
