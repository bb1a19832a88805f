# SPDX-License-Identifier: Apache-2.0
"""Cursors: where the next page of a list begins, in a text that says nothing to the client.

A cursor belongs to one list. It is neither secret nor signed: who makes one up sees a page that he may see anyway.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import Annotated, Generic, TypeVar

from fastapi import Query
from pydantic import BeforeValidator, WithJsonSchema

from xdpdirector.api.http.request_models import Items

Item = TypeVar("Item")
MOST = 1 << 53


class Page(Items[Item], Generic[Item]):
    """`next`: the cursor of the next page; null on the last one."""

    next: str | None = None


def encode(name: str, place: int) -> str:
    return urlsafe_b64encode(f"{name}:{place}".encode()).decode().rstrip("=")


def decode(name: str, text: object) -> int:
    """ValueError for what is no cursor of that list."""
    try:
        padded = str(text).encode() + b"=" * (-len(str(text)) % 4)
        found, _, place = urlsafe_b64decode(padded).decode().partition(":")
        number = int(place)
    except ValueError:
        found, number = "", -1
    if found != name or not 0 <= number <= MOST or encode(name, number) != text:
        raise ValueError("this is no cursor of this list: take `next` as the page before has it")
    return number


def of(name: str) -> BeforeValidator:
    """What makes `Cursor` a cursor of that list."""
    return BeforeValidator(lambda text: decode(name, text))


Cursor = Annotated[
    int,
    WithJsonSchema({"type": "string", "format": "cursor", "pattern": "^[A-Za-z0-9_-]+$"}),
    Query(description="`next` of the page before"),
]
"""A query parameter; the place, inside."""


def page(
    name: str, found: Sequence[Item], limit: int, place: int, last_event_id: int | None = None
) -> Page[Item]:
    """The first `limit` of `found`; more than that means that there is another page, from `place` on."""
    rest = len(found) > limit
    following = encode(name, place) if rest else None
    return Page(items=list(found[:limit]), next=following, last_event_id=last_event_id)
