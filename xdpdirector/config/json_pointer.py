# SPDX-License-Identifier: Apache-2.0
"""JSON pointers (RFC 6901): how an error says where in a document it is."""

from __future__ import annotations

from typing import Any


def pointer(*parts: str | int) -> str:
    """`pointer("services", "web", 0)` is `/services/web/0`; of nothing, the whole document: an empty text."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def parts_of(pointer: str, data: object) -> tuple[str | int, ...]:
    """A JSON pointer as keys and numbers, as `data` has them."""
    path: list[str | int] = []
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        step: str | int = int(name) if isinstance(data, list) and name.isdigit() else name
        path.append(step)
        inside: Any = data
        known = isinstance(data, dict) and step in data
        known = known or (isinstance(data, list) and isinstance(step, int) and step < len(data))
        data = inside[step] if known else None
    return tuple(path)
