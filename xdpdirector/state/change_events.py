# SPDX-License-Identifier: Apache-2.0
"""The events that follow from a change of the desired state, by service and backend. Pure.

Knows the model; neither the author of the change nor the subscribers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from xdpdirector.model import BackendSpec, Frozen, ServiceSpec
from xdpdirector.state.edits import Services, touched


class ChangeEvent(NamedTuple):
    """The arguments for `xdpdirector.control.events.Events.publish`."""

    kind: str
    subject: str
    text: str
    data: dict[str, Any]


def change_events(before: Services, after: Services) -> Iterator[ChangeEvent]:
    """From one desired state to another; services in the order of the names."""
    for name in sorted(touched(before, after)):
        earlier, later = before.get(name), after.get(name)
        if earlier is None and later is not None:
            yield _created(name, later)
        elif later is None:
            yield ChangeEvent("service.removed", name, "the service is removed", {})
        elif earlier is not None:
            yield from _changed_service(name, earlier, later)


def _created(name: str, spec: ServiceSpec) -> ChangeEvent:
    listeners = [str(listener) for listener in spec.listeners]
    text = (
        f"new service on {', '.join(listeners)}, scheduler {spec.scheduler}, backends: {len(spec.backends)}"
    )
    return ChangeEvent(
        "service.created", name, text, {"listeners": listeners, "backends": sorted(spec.backends)}
    )


def _changed_service(name: str, before: ServiceSpec, after: ServiceSpec) -> Iterator[ChangeEvent]:
    changes = _differing(before, after, leaving_out="backends")
    if changes:
        yield ChangeEvent("service.changed", name, _sentence(changes), {"changes": changes})
    for key in sorted({*before.backends, *after.backends}):
        yield from _changed_backend(f"{name}/{key}", before.backends.get(key), after.backends.get(key))


def _changed_backend(
    subject: str, before: BackendSpec | None, after: BackendSpec | None
) -> Iterator[ChangeEvent]:
    if after is None:
        yield ChangeEvent("backend.removed", subject, "the backend is removed", {})
        return
    if before is None:
        text = f"new backend {after.address}, weight {after.weight}"
        yield ChangeEvent(
            "backend.created", subject, text, {"address": str(after.address), "weight": after.weight}
        )
        return
    if before.admin is not after.admin:
        data = {"before": str(before.admin), "after": str(after.admin)}
        yield ChangeEvent("backend.admin", subject, f"{before.admin} -> {after.admin}", data)
    changes = _differing(before, after, leaving_out="admin")
    if changes:
        yield ChangeEvent("backend.changed", subject, _sentence(changes), {"changes": changes})


def _differing(before: Frozen, after: Frozen, *, leaving_out: str) -> dict[str, dict[str, Any]]:
    """Field -> its values before and after, as JSON has them."""
    earlier = before.model_dump(mode="json", exclude={leaving_out})
    later = after.model_dump(mode="json", exclude={leaving_out})
    return {
        field: {"before": earlier[field], "after": later[field]}
        for field in earlier
        if earlier[field] != later[field]
    }


def _sentence(changes: dict[str, dict[str, Any]]) -> str:
    """Values where they are short."""
    return ", ".join(
        field
        if isinstance(change["before"], dict) or isinstance(change["after"], dict)
        else f"{field} {_value(change['before'])} -> {_value(change['after'])}"
        for field, change in changes.items()
    )


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)
