# SPDX-License-Identifier: Apache-2.0
"""A request's body as JSON, read once. A key that stands twice in an object is refused: most readers take the last
one, others the first (RFC 8259, section 4), and who checks a request must not see another one than who obeys it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import Request

from xdpdirector.config.json_pointer import pointer
from xdpdirector.errors import RepeatedError

Pairs = list[tuple[str, Any]]


class JsonRequest(Request):
    """A request whose document is known: it is not read once more when it is asked for."""

    _document: Any = None
    _is_known = False

    def take(self, document: Any) -> None:
        """What `json` gives from now on."""
        self._document, self._is_known = document, True

    async def json(self) -> Any:
        return self._document if self._is_known else await super().json()


def parsed(body: bytes) -> Any:
    """RepeatedError with a pointer to a key that stands twice. ValueError, RecursionError: it is no JSON."""
    try:
        return json.loads(body, object_pairs_hook=_once)
    except _TwiceError:
        place = next(_repeated(json.loads(body, object_pairs_hook=_Object), ()))
        raise RepeatedError(
            f"the key '{_shown(place[-1])}' stands twice in one object: send it once",
            pointer=pointer(*map(_shown, place)),
        ) from None


class _TwiceError(Exception):
    """Some key stands twice."""


class _Object(Pairs):
    """An object with all that it says."""


def _once(pairs: Pairs) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _TwiceError
    return made


def _repeated(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """Where keys stand for the second time."""
    if isinstance(value, _Object):
        seen = set()
        for key, inside in value:
            if key in seen:
                yield (*path, key)
            seen.add(key)
            yield from _repeated(inside, (*path, key))
    elif isinstance(value, list):
        for number, inside in enumerate(value):
            yield from _repeated(inside, (*path, number))


def _shown(part: str | int) -> str:
    """Bounded, and Unicode."""
    text = str(part).encode(errors="replace").decode()
    return text if len(text) <= 60 else f"{text[:57]}..."
