# SPDX-License-Identifier: Apache-2.0
"""The shape of a C struct for layout.json, from the ctypes class that BCC generates.

Knows ctypes classes only, neither maps nor files.
"""

from __future__ import annotations

import ctypes as ct
from typing import Any

_BYTES = (ct.c_char, ct.c_ubyte)
_PADDING = "__pad_"  # BCC's padding fields


def of(kind: Any) -> dict[str, Any]:
    """{"size", "type"} of a scalar; {"name", "size", "fields"} of a struct or union."""
    if issubclass(kind, ct.Structure | ct.Union):
        return {"name": kind.__name__, "size": ct.sizeof(kind), "fields": _fields(kind, 0)}
    return {"size": ct.sizeof(kind), "type": _scalar(kind)}


def _fields(kind: Any, start: int) -> list[dict[str, Any]]:
    """Members of anonymous structs and unions belong to the outer one, as in C."""
    fields: list[dict[str, Any]] = []
    for name, field_kind, *bits in kind._fields_:
        offset = start + getattr(kind, name).offset
        if name in getattr(kind, "_anonymous_", ()):
            fields += _fields(field_kind, offset)
        elif not name.startswith(_PADDING):
            field = {"name": name, "offset": offset, **_typed(field_kind)}
            if bits:
                field["bits"] = [getattr(kind, name).size & 0xFFFF, getattr(kind, name).size >> 16]
            fields.append(field)
    return fields


def _typed(kind: Any) -> dict[str, Any]:
    """Size and type of a field, with the count of an array's elements. A byte array has the type bytes."""
    if not issubclass(kind, ct.Array):
        struct = issubclass(kind, ct.Structure | ct.Union)
        return {"size": ct.sizeof(kind), "type": of(kind) if struct else _scalar(kind)}
    if kind._type_ in _BYTES:
        return {"size": ct.sizeof(kind), "type": "bytes"}
    element = _typed(kind._type_)
    return element | {"size": ct.sizeof(kind), "count": kind._length_ * element.get("count", 1)}


def _scalar(kind: Any) -> str:
    signed = kind not in (ct.c_bool, ct.c_char) and kind(-1).value < 0
    return f"{'s' if signed else 'u'}{8 * ct.sizeof(kind)}"
