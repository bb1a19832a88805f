# SPDX-License-Identifier: Apache-2.0
"""Bodies that exist only in requests. Options are inherited from the model, so that each is written once."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from xdpdirector.errors import InvalidRequestError
from xdpdirector.model import AdminState, BackendSpec, Frozen, Name, ServiceSpec, Timeout
from xdpdirector.model.fields import Between, Duration
from xdpdirector.model.guard import DenyEntry, DenyReason, PrefixField
from xdpdirector.model.status import BackendView, DeniedView, ServiceView
from xdpdirector.state import admin_change

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
        _fields_set=named.model_fields_set & kind.model_fields.keys(),
        **{field: getattr(named, field) for field in kind.model_fields},
    )


class AsShown(Frozen):
    """A body that may be GET's answer: its read-only fields are ignored."""

    passed_over: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_seen(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        return {name: value for name, value in document.items() if name not in cls.passed_over}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        made = handler(schema)
        properties = handler.resolve_ref_schema(made)["properties"]
        properties |= {
            name: {"description": "As GET shows it; passed over."} for name in sorted(cls.passed_over)
        }
        return made


def _only_seen(view: type[BaseModel], body: type[BaseModel]) -> frozenset[str]:
    return frozenset(view.model_fields.keys() - body.model_fields.keys())


def require_name(said: object, name: object, field: str) -> None:
    """InvalidRequestError when a body, if it says a name at all, says another one than the path."""
    if said is not None and said != name:
        raise InvalidRequestError(
            f"the body's {field} is '{said}', and the path's is '{name}': nothing is renamed by a PUT",
            pointer=f"/{field}",
        )


class _NamedBackend(BackendSpec):
    service: Name | None = None
    name: Name | None = None


class BackendPut(AsShown, _NamedBackend):
    """A backend, also as GET shows it. `service` and `name` are those of the path, or are left out."""

    passed_over = _only_seen(BackendView, _NamedBackend)

    def spec(self) -> BackendSpec:
        return _without_name(self, BackendSpec)


class _NamedService(ServiceSpec):
    name: Name | None = None


class ServicePut(AsShown, _NamedService):
    """A service, also as GET shows it: then `backends` is a list. `name` is that of the path, or is left out."""

    passed_over = _only_seen(ServiceView, _NamedService)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, document: Any) -> Any:
        """Of a list; with what is only seen of each left out."""
        listed = document.get("backends") if isinstance(document, dict) else None
        if not isinstance(listed, list):
            return document
        if not all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in listed):
            raise ValueError("each of the backends in a list needs its name")
        names = [each["name"] for each in listed]
        if len(set(names)) != len(names):
            raise ValueError("two of the backends in the list have the same name")
        wished = BackendSpec.model_fields.keys() | {"name"} | BackendPut.passed_over | {"service"}
        unknown = sorted(set().union(*(each.keys() for each in listed)) - wished)
        if unknown:
            raise ValueError(f"a backend has no '{unknown[0]}'")
        return document | {
            "backends": {
                each["name"]: {
                    name: value for name, value in each.items() if name in BackendSpec.model_fields
                }
                for each in listed
            }
        }

    def spec(self) -> ServiceSpec:
        return _without_name(self, ServiceSpec)


class _NamedDenial(Frozen):
    prefix: PrefixField | None = None
    reason: DenyReason = ""


class DenialPut(AsShown, _NamedDenial):
    """Why a prefix is denied; also as GET shows it."""

    passed_over = _only_seen(DeniedView, _NamedDenial)


class DenialAsShown(AsShown, DenyEntry):
    """An entry of the deny list, also as GET shows it."""

    passed_over = _only_seen(DeniedView, DenyEntry)


class ReasonBody(Frozen):
    """Why something is done."""

    reason: Annotated[str, Field(max_length=500)] = ""


class AdminChange(ReasonBody):
    """Why a backend is enabled or put in maintenance."""

    def to(self, admin: AdminState) -> admin_change.AdminChange:
        """The change to this state."""
        return admin_change.AdminChange(admin, self.reason)


class DrainChange(AdminChange):
    """A drain may end by itself: at `deadline` the connections left are kept, or cut."""

    deadline: Timeout | None = None
    on_deadline: Literal["keep", "cut"] = "keep"

    def drain(self) -> admin_change.AdminChange:
        """The change to `drain`."""
        return admin_change.AdminChange(AdminState.DRAIN, self.reason, self.deadline, self.on_deadline)


Item = TypeVar("Item")


class Items(BaseModel, Generic[Item]):
    """A list's envelope: leaves room for a cursor beside the items."""

    items: list[Item]
    last_event_id: Annotated[
        int | None,
        Field(
            description="Of the last event before: /v1/events with this Last-Event-ID goes on without a gap"
        ),
    ] = None
