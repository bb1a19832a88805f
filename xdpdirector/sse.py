# SPDX-License-Identifier: Apache-2.0
"""Server-sent events as they stand on the wire (WHATWG HTML, 9.2.6), taken apart. Pure; knows no connection.

Written here because the libraries for it come with an HTTP client, whose import takes longer than a whole command.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Message(NamedTuple):
    """`data` is what the sender wrote; `id` the latest that was seen, to come back behind it."""

    event: str
    data: str
    id: str


def messages(lines: Iterable[bytes]) -> Iterator[Message]:
    """From lines, ends included. What an end of the stream cuts in two is left out, as are comments."""
    event, data, identity = "", list[str](), ""
    for line in lines:
        field, _, value = line.decode().rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if line in (b"\n", b"\r\n"):
            if data:
                yield Message(event or "message", "\n".join(data), identity)
            event, data = "", []
        elif field == "event":
            event = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            identity = value
