# SPDX-License-Identifier: Apache-2.0
"""Bodies that exist only in requests. Options are inherited from the model, so that each is written once."""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from xdpdirector.fields import Between, Duration
from xdpdirector.model import BackendSpec, Frozen, Name, ServiceSpec, Timeout

Wait = Annotated[
    Duration, Between(0.001, 600, "must be at least 1ms, and at most 10m: ask again to wait longer")
]


class ServiceCreate(ServiceSpec):
    """A service with its name."""

    name: Name

    def spec(self) -> ServiceSpec:
        return _without_name(self, ServiceSpec)


class BackendCreate(BackendSpec):
    """A backend with its name."""

    name: Name

    def spec(self) -> BackendSpec:
        return _without_name(self, BackendSpec)


Spec = TypeVar("Spec", bound=BaseModel)


def _without_name(named: BaseModel, kind: type[Spec]) -> Spec:
    """The validated values of `named` as its parent class; not spelled and read again, so nothing is lost."""
    return kind.model_construct(
        _fields_set=named.model_fields_set - {"name"},
        **{field: getattr(named, field) for field in kind.model_fields},
    )


class AdminChange(Frozen):
    """Why a backend is enabled or put in maintenance."""

    reason: Annotated[str, Field(max_length=500)] = ""


class DrainChange(AdminChange):
    """A drain may end by itself: at `deadline` the connections left are kept, or cut."""

    deadline: Timeout | None = None
    on_deadline: Literal["keep", "cut"] = "keep"


Item = TypeVar("Item")


class Items(BaseModel, Generic[Item]):
    """A list's envelope: leaves room for a cursor beside the items."""

    items: list[Item]
