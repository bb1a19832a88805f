# SPDX-License-Identifier: Apache-2.0
"""Merge patches (RFC 7396) and their JSON Schemas: any part of a document, with null where the default shall be.

The schema says what parts there are. Whether a patch is valid is known when it is applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from xdpdirector.model import BackendSpec, ServiceSpec

Schema = dict[str, Any]
_NULL = {"type": "null"}
_OF_ANOTHER_PLACE = {"default", "title", "description"}


def patch_of(model: type[BaseModel]) -> Schema:
    """The schema of a patch for such a document."""
    whole = model.model_json_schema()
    return _Patching(whole.get("$defs", {})).patch(whole)


class _Patching:
    def __init__(self, definitions: dict[str, Schema]) -> None:
        self._definitions = definitions

    def patch(self, schema: Schema) -> Schema:
        """Objects merge, all else is replaced whole."""
        if "$ref" in schema:
            return self.patch(self._definitions[schema["$ref"].rpartition("/")[2]])
        kept = {key: value for key, value in schema.items() if key not in _OF_ANOTHER_PLACE}
        if schema.get("type") == "object":
            return self._object(kept)
        branches = schema.get("anyOf") or schema.get("oneOf")
        if "type" in schema or not branches:
            return kept
        return {"anyOf": [self.patch(branch) for branch in branches]}

    def _object(self, schema: Schema) -> Schema:
        """Nothing is required; null takes parts away, so there may be many, and such that are not there."""
        patched: Schema = {"type": "object", "additionalProperties": _NULL}
        for kind in ("properties", "patternProperties"):
            if kind in schema:
                patched[kind] = {name: self._optional(part) for name, part in schema[kind].items()}
        return patched

    def _optional(self, schema: Schema) -> Schema:
        patched = self.patch(schema)
        branches = patched["anyOf"] if set(patched) == {"anyOf"} else [patched]
        return {"anyOf": [*(branch for branch in branches if branch != _NULL), _NULL]}


@dataclass(frozen=True)
class PatchOf:
    """Marks a body as a patch for such a document. Its schema is made for who reads it."""

    model: type[BaseModel]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        return patch_of(self.model)


ServicePatch = Annotated[dict[str, Any], PatchOf(ServiceSpec)]
BackendPatch = Annotated[dict[str, Any], PatchOf(BackendSpec)]
