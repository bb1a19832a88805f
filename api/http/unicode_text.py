# SPDX-License-Identifier: Apache-2.0
"""JSON can spell half a surrogate pair (RFC 8259, 8.2), which nothing behind the API can store or show.

Such a body is refused before its content is looked at, so that no half of the work is done. Knows no route.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from xdpdirector.config.json_pointer import pointer
from xdpdirector.errors import NotUnicodeError


def utf8(field: str) -> str:
    """Of a header: octets, of which each stands as the character of its number; UTF-8 where they are."""
    try:
        return field.encode("latin-1").decode()
    except UnicodeError:
        return field


def require_unicode(body: bytes) -> None:
    """NotUnicodeError, with a pointer."""
    if b"\\ud" not in body and b"\\uD" not in body:
        return
    try:
        found = list(_texts(json.loads(body), ()))
    except (ValueError, RecursionError):
        return  # refused with the reason by what reads it
    for path, text in found:
        if not _is_unicode(text):
            raise NotUnicodeError(
                "this text is not Unicode: it has a surrogate (\\ud800 to \\udfff) without its other half",
                pointer=pointer(*(part if _is_unicode(part) else "?" for part in map(str, path))),
            )


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _texts(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """All strings in the document and where they stand; a key stands where its value does."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, inside in value.items():
            yield (*path, key), key
            yield from _texts(inside, (*path, key))
    elif isinstance(value, list):
        for number, inside in enumerate(value):
            yield from _texts(inside, (*path, number))
