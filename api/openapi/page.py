# SPDX-License-Identifier: Apache-2.0
"""/openapi.json, and /docs: the same as a page to read, which needs no script and nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, JSONResponse

from xdpdirector.api.routers import new_router

Document = dict[str, Any]
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:1em auto;padding:0 1em}code{font-size:90%}"
    "table{border-collapse:collapse}td,th{border:1px solid #999;padding:.2em .5em;text-align:left;"
    "vertical-align:top}summary{cursor:pointer;padding:.3em 0}"
)

router = new_router(include_in_schema=False)


@router.get("/openapi.json", name="openapi")
async def get_document(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


@router.get("/docs", response_class=HTMLResponse)
async def get_reference(request: Request) -> HTMLResponse:
    """What /openapi.json says, for people."""
    return HTMLResponse(page(request.app.openapi()), headers={"content-security-policy": _POLICY})


def page(document: Document) -> str:
    info = document["info"]
    title = escape(f"{info['title']} {info['version']}")
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>',
        f'<h1>{title}</h1>{_text(info["description"])}<p><a href="/openapi.json">/openapi.json</a></p>',
        *_operations(document),
        "<h2>Schemas</h2>",
        *(_schema(name, each) for name, each in sorted(document["components"]["schemas"].items())),
        "</html>",
    ]
    return "\n".join(parts)


def _operations(document: Document) -> Iterator[str]:
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2><p>{escape(tag['description'])}</p>"
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if tag["name"] in operation.get("tags", ()):
                    yield _operation(document, f"{method.upper()} {path}", operation)


def _operation(document: Document, place: str, operation: Document) -> str:
    role = f" &mdash; {escape(operation['x-role'])}" if "x-role" in operation else ""
    parameters = [
        (f"{each['name']} ({each['in']})", _type(each["schema"]), each.get("description", ""))
        for each in operation.get("parameters", ())
    ]
    answers = []
    for status, answer in operation["responses"].items():
        found = answer if "$ref" not in answer else _referred(document, answer["$ref"])
        answers.append((status, _content(found), found["description"]))
    body = _content(operation["requestBody"]) if "requestBody" in operation else ""
    return (
        f'<details id="{escape(operation["operationId"])}"><summary><code>{escape(place)}</code>{role}</summary>'
        f"{_text(operation.get('description', ''))}{_table(parameters)}"
        f"{f'<p>Body: {body}</p>' if body else ''}{_table(answers)}</details>"
    )


def _content(holder: Document) -> str:
    kinds = holder.get("content", {}).items()
    return "<br>".join(f"{escape(kind)}: {_type(each.get('schema', {}))}" for kind, each in kinds)


def _schema(name: str, schema: Document) -> str:
    required = schema.get("required", ())
    fields = [
        (field + (" *" if field in required else ""), _type(each), each.get("description", ""))
        for field, each in schema.get("properties", {}).items()
    ]
    said = "" if fields else f"<p>{_type(schema)}</p>"
    text = _text(schema.get("description", ""))
    return f'<h3 id="{escape(name)}">{escape(name)}</h3>{text}{said}{_table(fields)}'


def _type(schema: Document) -> str:
    """In a few words, with links."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}">{name}</a>'
    branches = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if branches:
        return " or ".join(map(_type, branches))
    if "const" in schema or "enum" in schema:
        return ", ".join(
            f"<code>{escape(str(each))}</code>" for each in schema.get("enum", [schema.get("const")])
        )
    if isinstance(schema.get("items"), dict):
        return f"list of {_type(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"by name: {_type(schema['additionalProperties'])}"
    kinds = schema.get("type", "anything")
    return escape(kinds if isinstance(kinds, str) else " or ".join(kinds))


def _table(rows: list[tuple[str, str, str]]) -> str:
    """The second cell is markup already."""
    cells = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{kind}<td>{escape(text)}" for name, kind, text in rows
    )
    return f"<table>{cells}</table>" if rows else ""


def _text(text: str) -> str:
    return "".join(f"<p>{escape(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph)


def _referred(document: Document, reference: str) -> Document:
    found: Document = document
    for part in reference.split("/")[1:]:
        found = found[part]
    return found
