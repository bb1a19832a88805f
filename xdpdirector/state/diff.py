# SPDX-License-Identifier: Apache-2.0
"""The difference between two desired states, field by field, and the connections that the change ends. Pure.

The plan is shown before a change and returned after it. Knows the model; nothing of how a change gets to the maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Literal, TypeAlias

from xdpdirector.config.json_pointer import pointer
from xdpdirector.model import Address, AdminState, BackendSpec, Frozen, Name, ServiceSpec
from xdpdirector.state.edits import Services, touched

Document: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, str]
Running = Callable[[Key], tuple[int, bool]]
"""How many connections a backend has, and whether there may be others without a record."""


class Difference(Frozen):
    """`pointer` (RFC 6901) leads into the configuration. What was added has no `before`, what was removed no
    `after`; a service or backend that comes or goes is one difference, with all that it is: its spec, which becomes
    a document when the difference does."""

    action: Literal["added", "changed", "removed"]
    pointer: str
    before: Any = None
    after: Any = None


class Affected(Frozen):
    """Running connections that end. `exact` is false when there may be others than `connections`, or fewer: `mh`,
    `sh` keep no record of most, and of a listener's nobody knows without reading them all."""

    service: Name
    backend: Name
    connections: int
    exact: bool
    why: str


class Missing(Frozen):
    """What a check would ask of a backend, and does not find there yet. `address`: the VIP, or the backend's."""

    service: Name
    backend: Name
    address: Address
    why: str


class Plan(Frozen):
    """What a configuration changes. `revision`: the one that holds it, or the present one when nothing was done.
    `missing`: only of a dry run, which asks each backend once what it is not asked now."""

    dry_run: bool
    revision: int
    changes: tuple[Difference, ...]
    affected: tuple[Affected, ...]
    missing: tuple[Missing, ...] = ()


class RevisionView(Frozen):
    """What was wanted from `at` on. `changes`: against the revision before; null when that is not kept any more."""

    revision: int
    at: datetime
    author: str
    reason: str
    services: dict[Name, ServiceSpec]
    changes: tuple[Difference, ...] | None


def differences(before: Services, after: Services) -> tuple[Difference, ...]:
    """Services and backends by name, fields in the model's order."""
    return tuple(_differences(before, after))


def _differences(before: Services, after: Services) -> Iterator[Difference]:
    for name in sorted(touched(before, after)):
        earlier, later = before.get(name), after.get(name)
        place = pointer("services", name)
        if earlier is None or later is None:
            yield _whole(place, earlier, later)
            continue
        left_out = {"backends"}
        yield from _fields(
            place,
            earlier.model_dump(mode="json", exclude=left_out),
            later.model_dump(mode="json", exclude=left_out),
        )
        for key in sorted({*earlier.backends, *later.backends}):
            first, second = earlier.backends.get(key), later.backends.get(key)
            if first is None or second is None:
                yield _whole(place + pointer("backends", key), first, second)
            elif first != second:
                yield from _fields(
                    place + pointer("backends", key),
                    first.model_dump(mode="json"),
                    second.model_dump(mode="json"),
                )


def _whole(place: str, before: Frozen | None, after: Frozen | None) -> Difference:
    return Difference(
        action="added" if before is None else "removed", pointer=place, before=before, after=after
    )


def _fields(place: str, before: Document, after: Document) -> Iterator[Difference]:
    """Mappings inside are followed; lists are compared whole."""
    for field in {**before, **after}:
        earlier, later = before.get(field), after.get(field)
        inside = place + pointer(field)
        if earlier == later:
            continue
        if isinstance(earlier, dict) and isinstance(later, dict):
            yield from _fields(inside, earlier, later)
        else:
            action: Literal["added", "changed", "removed"] = "changed"
            if earlier is None or later is None:
                action = "added" if earlier is None else "removed"
            yield Difference(action=action, pointer=inside, before=earlier, after=later)


def affected(before: Services, after: Services, running: Running) -> tuple[Affected, ...]:
    """The backends whose running connections the change ends; those that have none are left out."""
    return tuple(_affected(before, after, running))


def _affected(before: Services, after: Services, running: Running) -> Iterator[Affected]:
    for name, service in sorted(before.items()):
        for key, backend in sorted(service.backends.items()):
            why, exact = _ends(name, backend, service, after, key)
            count, unseen = running((name, key)) if why else (0, False)
            if count or unseen:
                yield Affected(
                    service=name, backend=key, connections=count, exact=exact and not unseen, why=why
                )


def _ends(
    name: str, backend: BackendSpec, service: ServiceSpec, after: Mapping[str, ServiceSpec], key: str
) -> tuple[str, bool]:
    """Why a backend's connections end, or an empty text; and whether all of them do."""
    later = after.get(name)
    if later is None:
        return "the service is removed", True
    successor = later.backends.get(key)
    if successor is None:
        return "the backend is removed", True
    if successor.address != backend.address:
        return f"the backend moves to {successor.address}", True
    if successor.admin is AdminState.MAINTENANCE and backend.admin is not AdminState.MAINTENANCE:
        return "the backend goes into maintenance", True
    taken = [str(listener) for listener in service.listeners if listener not in later.listeners]
    if taken:
        return f"no listener any more: {', '.join(taken)}", False
    return "", True
