# SPDX-License-Identifier: Apache-2.0
"""A change that is only tried: what it would do, as a plan, and how one gets out of it without doing it.

Knows the plane's counters; nothing of how wishes are kept.
"""

from __future__ import annotations

from typing import Any

from xdpdirector.differences import Affected, Difference, Missing, affected, differences
from xdpdirector.drains import hides_connections
from xdpdirector.edits import Services
from xdpdirector.model import AdminState, ServiceSpec
from xdpdirector.plane import Key, Plane
from xdpdirector.pointer import pointer


class DryRunError(Exception):
    """No error: the way out of a change that is sound, and is only tried. What it would do is in it."""

    def __init__(
        self,
        changes: tuple[Difference, ...],
        affected: tuple[Affected, ...] = (),
        missing: tuple[Missing, ...] = (),
    ) -> None:
        super().__init__("only tried")
        self.changes, self.affected, self.missing = changes, affected, missing


def tried(plane: Plane, before: Services, after: Services, missing: tuple[Missing, ...]) -> DryRunError:
    """What a change of services would do."""

    def count(key: Key) -> tuple[int, bool]:
        return running(plane, before[key[0]], key)

    return DryRunError(differences(before, after), affected(before, after, count), missing)


def beside(
    collection: str, name: object, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> Difference:
    """Of what is none of the services: a denied prefix, a token."""
    place = pointer(*collection.split("/"), str(name))
    if before is None:
        return Difference(action="added", pointer=place, after=after)
    return Difference(
        action="removed" if after is None else "changed", pointer=place, before=before, after=after
    )


def running(plane: Plane, spec: ServiceSpec, key: Key) -> tuple[int, bool]:
    """See `xdpdirector.differences.Running`."""
    admin, settled = spec.backends[key[1]].admin, plane.is_settled(key[0])
    told = admin is AdminState.MAINTENANCE or (admin is AdminState.DRAIN and settled)
    unseen = not told and hides_connections(spec, settled=settled)
    return plane.counts(key).active, unseen and bool(plane.traffic([key])[key].packets)
