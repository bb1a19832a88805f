# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document where the framework's is not all of the truth: errors, roles, parameters. Knows no route."""

from __future__ import annotations

from typing import Any

from xdpdirector.api.auth import roles
from xdpdirector.api.http import problems
from xdpdirector.api.http.sse_limit import EventStream
from xdpdirector.api.openapi.plain_schemas import plain
from xdpdirector.api.openapi.responses import promised

Document = dict[str, Any]
_NULL = {"type": "null"}
DESCRIPTION = """\
What the director does, seen and changed by programs. On the unix socket a client is who the kernel says; over TCP
it needs a token.

Changes answer when the packet path has them, all of a change or nothing. Each of them can be tried with `dry_run`,
can be bound to what was read (`If-Match`) or to what is new (`If-None-Match: *`), and can say why
(`Change-Reason`).
Each error is an RFC 9457 problem. What GET gives, PUT takes. HEAD is where GET is.
"""
TAGS = {
    "services": "Virtual services",
    "backends": "The real servers of a service, and their drains",
    "configuration": "All that is wanted as one document, and its past",
    "connections": "What the connection table holds",
    "dataplane": "What the kernel holds",
    "explain": "What would become of a packet",
    "guard": "Who is denied, and what limits refused",
    "network": "What is true on the network",
    "fleet": "The other directors, and whose connections are where",
    "statistics": "Counters",
    "events": "What happens, as it happens",
    "trace": "What becomes of packets, one by one",
    "status": "Whether it is well",
    "access": "Tokens, and who changed what",
}


def completed(document: Document) -> Document:
    """With the schema of problems, which all errors are, and with what an operation needs."""
    schema = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    document["components"]["schemas"].update({**schema.pop("$defs"), "Problem": schema})
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["info"] |= {
        "description": DESCRIPTION,
        "contact": {"name": "The operators of this director"},
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }
    document["servers"] = [{"url": "/", "description": "Where this document is"}]
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    for operation in (each for path in document["paths"].values() for each in path.values()):
        operation |= roles.security(operation["operationId"])
        if any(each["name"] == "dry_run" for each in operation.get("parameters", ())):
            _answer_a_plan(operation["responses"])
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = _without_null(parameter["schema"])
        for answer in operation["responses"].values():
            _describe_streams(answer.get("content", {}))
    document = promised(plain(document))
    _take_what_get_gives(document["components"]["schemas"])
    return _without_unused(document)


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


def _describe_streams(content: Document) -> None:
    """Nothing is said of them: for some programs the `schema` is that of one event, for others not."""
    for name, kind in content.items():
        if name == EventStream.media_type:
            kind.pop("schema", None)


def _take_what_get_gives(schemas: Document) -> None:
    """A service's backends are a list there."""
    backends = schemas["ServicePut"]["properties"]["backends"]
    mapping = {key: value for key, value in backends.items() if key != "description"}
    named = {"allOf": [{"$ref": "#/components/schemas/BackendPut"}, {"type": "object", "required": ["name"]}]}
    schemas["ServicePut"]["properties"]["backends"] = {
        "description": f"{backends['description']} Or a list, as GET shows it.",
        "anyOf": [mapping, {"type": "array", "items": named}],
    }


def _without_unused(document: Document) -> Document:
    """Schemas that nothing leads to."""
    schemas, needed = document["components"]["schemas"], set[str]()
    rest = {key: value for key, value in document["components"].items() if key != "schemas"}
    left = [*_references(document["paths"]), *_references(rest)]
    while left:
        name = left.pop()
        if name not in needed:
            needed.add(name)
            left += _references(schemas[name])
    document["components"]["schemas"] = {name: schema for name, schema in schemas.items() if name in needed}
    return document


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = node.get("$ref")
        found = [own.rpartition("/")[2]] if isinstance(own, str) and "/schemas/" in own else []
        return found + [name for inside in node.values() for name in _references(inside)]
    return [name for inside in node for name in _references(inside)] if isinstance(node, list) else []
