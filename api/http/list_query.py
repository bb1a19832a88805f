# SPDX-License-Identifier: Apache-2.0
"""What a client may ask of a list: which ones, in which order, and which of their fields. Knows views, no route."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from fastapi import Query
from pydantic import AfterValidator, BaseModel, WithJsonSchema

from xdpdirector.api.http import pagination
from xdpdirector.api.http.read_queue import as_json
from xdpdirector.errors import InvalidRequestError
from xdpdirector.model import labels

View = TypeVar("View", bound=BaseModel)
Part = dict[str, Any]
"""Of an item those fields that were asked for."""

LONGEST_SELECTOR = 500


def _sound(text: str) -> str:
    labels.parse(text)
    return text


Selector = Annotated[
    str,
    AfterValidator(_sound),
    WithJsonSchema({"type": "string", "format": "selector", "minLength": 1, "maxLength": LONGEST_SELECTOR}),
    Query(
        max_length=LONGEST_SELECTOR,
        description="Only with these labels: `rack=b3,tier!=db,gpu,!old,zone in (a,b)`",
    ),
]
Limit = Annotated[int, Query(ge=1, le=1000, description="At most so many")]
_NAMES = "[a-z_]+(,[a-z_]+)*"
Sort = Annotated[
    str,
    Query(
        pattern="^(-?[a-z_]+(,-?[a-z_]+)*)?$",
        max_length=200,
        description="By these fields, with commas between; `-` before one: the highest first",
    ),
]
Fields = Annotated[
    str, Query(pattern=f"^({_NAMES})?$", max_length=500, description="Only these fields, with commas between")
]


class Place(NamedTuple):
    """Of a page: where it begins, and where the next one does. `last_event_id`: of the last event before."""

    begin: int
    end: int
    last_event_id: int


@dataclass(frozen=True)
class Wanted(Generic[View]):
    """What is wanted of a list of `kind`s. InvalidRequestError for a field that it does not have, or without order.

    `chosen`: whether it is one of those that are wanted; None: all are.
    """

    kind: type[View]
    chosen: Callable[[View], bool] | None
    sort: str
    fields: str

    def __post_init__(self) -> None:
        for name in self.sort.split(",") if self.sort else ():
            _require(name.removeprefix("-"), _orders(self.kind), "sort")
        for name in self.fields.split(",") if self.fields else ():
            _require(name, list(self.kind.model_fields), "fields")

    @property
    def as_they_are(self) -> bool:
        """All, in the order in which they stand: a page needs no other one."""
        return self.chosen is None and not self.sort

    def found(self, views: Sequence[View]) -> list[View]:
        """Those that are wanted, in order."""
        found = [view for view in views if self.chosen is None or self.chosen(view)]
        for name in reversed(self.sort.split(",") if self.sort else []):
            found.sort(key=_key(name.removeprefix("-")), reverse=name.startswith("-"))
        return found

    def page(self, name: str, views: Sequence[View], place: Place) -> bytes:
        """Of the list `name`, all of which `views` are."""
        found = self.found(views)
        return self.written(name, found[place.begin : place.end], len(found), place)

    def written(self, name: str, views: Sequence[View], total: int, place: Place) -> bytes:
        """A page that has `views`, of a list with `total` ones."""
        following = pagination.encode(name, place.end) if place.end < total else None
        fields = frozenset(self.fields.split(",")) if self.fields else None
        return as_json(views, following, place.last_event_id, fields)


def _key(field: str) -> Callable[[BaseModel], tuple[bool, Any]]:
    """What is nothing comes last."""

    def key(view: BaseModel) -> tuple[bool, Any]:
        value = getattr(view, field)
        ordered = value if isinstance(value, int | float) else str(value)
        return value is None, "" if value is None else ordered

    return key


def _orders(kind: type[BaseModel]) -> list[str]:
    """Fields that are a number or a text."""
    compound = (
        "tuple",
        "dict",
        "Counts",
        "Traffic",
        "View",
        "Timeouts",
        "Persistence",
        "Limit",
        "Check",
        "Refused",
    )
    return [
        name
        for name, field in kind.model_fields.items()
        if not any(word in str(field.annotation) for word in compound)
    ]


def _require(name: str, known: Sequence[str], parameter: str) -> None:
    if name not in known:
        raise InvalidRequestError(f"{parameter}: there is no field '{name}': take one of {', '.join(known)}")
