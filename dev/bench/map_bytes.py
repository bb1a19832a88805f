# SPDX-License-Identifier: Apache-2.0
"""Keys and values of maps as bytes, by the shapes that stand in layout.json. Pure."""

from __future__ import annotations

import sys
from typing import Any


def pack(shape: dict[str, Any], **values: int | bytes) -> bytes:
    """A struct; what is not named is 0. Numbers in the host's byte order, bytes as they are.

    KeyError for a name that the struct does not have, ValueError for bytes that are longer than their field.
    """
    fields = {field["name"]: field for field in shape["fields"]}
    raw = bytearray(shape["size"])
    for name, value in values.items():
        start, size = fields[name]["offset"], fields[name]["size"]
        data = value if isinstance(value, bytes) else value.to_bytes(size, sys.byteorder)
        if len(data) > size:
            raise ValueError(f"{name} has room for {size} bytes, not for {len(data)}")
        raw[start : start + len(data)] = data
    return bytes(raw)


def number(value: int) -> bytes:
    """A 32-bit key or value."""
    return value.to_bytes(4, sys.byteorder)
