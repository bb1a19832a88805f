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
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
    return document


def _without_null(schema: Document) -> Document:
    """A parameter can be left out, but there is no way to write null in a header or a query."""
    branches = [branch for branch in schema.get("anyOf", ()) if branch != _NULL]
    if len(branches) == len(schema.get("anyOf", ())):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    return rest | (branches[0] if len(branches) == 1 else {"anyOf": branches})
