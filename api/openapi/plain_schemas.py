# SPDX-License-Identifier: Apache-2.0
"""Schemas as generators of clients understand them, made of those that pydantic writes. Pure; knows no operation.

One schema for one model: what may be sent and what is answered have the same name, so that what was GET can be PUT.
Names are the components' alone, and not those of fields. A mapping by name says what its values are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]
_SENT, _ANSWERED = "-Input", "-Output"
_REFERENCE = "#/components/schemas/"


def plain(document: Document) -> Document:
    """The same document, changed in place."""
    schemas = document["components"]["schemas"]
    names = {name: _name(name, schemas) for name in schemas}
    for name in list(schemas):
        if name.endswith(_ANSWERED) and name.removesuffix(_ANSWERED) + _SENT in schemas:
            del schemas[name]
    document["components"]["schemas"] = {names[name]: schema for name, schema in schemas.items()}
    _everywhere(document, lambda node: _renamed(node, names))
    _everywhere(document["paths"], _without_title)
    for name, schema in document["components"]["schemas"].items():
        _everywhere(schema, _without_title)
        _everywhere(schema, _by_name)
        schema["title"] = name
    return document


def _name(name: str, schemas: Document) -> str:
    """`Page_Revision_` is a page of revisions; of twins the one that may be sent says all that can be answered."""
    for suffix in (_SENT, _ANSWERED):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    generic, _, inside = name.rstrip("_").partition("_")
    return f"{inside}{generic}" if inside and name.endswith("_") else name


def _everywhere(node: Any, change: Callable[[Document], None]) -> None:
    if isinstance(node, dict):
        change(node)
        for inside in list(node.values()):
            _everywhere(inside, change)
    elif isinstance(node, list):
        for inside in node:
            _everywhere(inside, change)


def _renamed(node: Document, names: dict[str, str]) -> None:
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith(_REFERENCE):
        node["$ref"] = _REFERENCE + names.get(reference.removeprefix(_REFERENCE), reference)
    chosen = node.get("discriminator", {})
    mapping = chosen.get("mapping", {}) if "propertyName" in chosen else {}
    for tag, target in mapping.items():
        mapping[tag] = _REFERENCE + names[target.removeprefix(_REFERENCE)]


def _without_title(node: Document) -> None:
    """A field may be called so, too: then it is a schema, and no text."""
    if isinstance(node.get("title"), str):
        del node["title"]


def _by_name(node: Document) -> None:
    """`patternProperties`, which most generators pass over, and lose what is in there."""
    patterns = node.get("patternProperties")
    if not isinstance(patterns, dict) or len(patterns) != 1 or "properties" in node:
        return
    if (
        node.get("additionalProperties", False) is not False
    ):  # of a patch, where null takes away what is not there
        return
    ((pattern, values),) = patterns.items()
    del node["patternProperties"]
    node |= {"additionalProperties": values, "propertyNames": {"pattern": pattern}}
