# SPDX-License-Identifier: Apache-2.0
"""Whether what is wanted has room in the maps, told before anything is changed. Changes nothing itself.

What rests for a while before it is free, as a backend that rings still speak of, takes room, too.
"""

from __future__ import annotations

from collections.abc import Collection

from xdpdirector.errors import CapacityError
from xdpdirector.indices import Indices
from xdpdirector.listening import Listening
from xdpdirector.rings import Rings
from xdpdirector.schedule import ServicePlan
from xdpdirector.tables import Tables


class Capacity:
    """Of one data plane, whose parts these are."""

    def __init__(self, tables: Tables, indices: Indices, rings: Rings, listening: Listening) -> None:
        self._tables, self._indices, self._rings, self._listening = tables, indices, rings, listening

    def require_room(self, plans: Collection[ServicePlan], gone: Collection[str]) -> None:
        """CapacityError when these plans, in place of those of the same names, could not stand beside all others
        even when the services that are `gone` have left."""
        known, backends = self._indices.services, self._indices.backends
        going = [name for name in gone if name in known]
        new = [each for each in plans if each.name not in known]
        self._require("services", len(known) - len(going) + len(new))
        members = {(each.name, member.name) for each in plans for member in each.members}
        leaving = {key for name in going for key in self._indices.of_service(name)}
        leaving |= {key for each in plans for key in self._indices.of_service(each.name)} - members
        held = {backends[key] for key in backends.keys() - leaving}
        held.update(self._rings.mentioned_without(going))
        self._require("backends", len(held) + len(members - backends.keys()))
        for each in plans:
            self.require_members(each)
        self._rings.require_room(plans, going)
        self._listening.require_room(
            [(known.get(each.name), frozenset(each.listeners)) for each in plans],
            [known[name] for name in going],
        )

    def require_members(self, plan: ServicePlan) -> None:
        """CapacityError when one service has too many."""
        room = self._tables.members_each
        if not plan.scheduler.is_ring and len(plan.members) > room:
            raise CapacityError(
                f"service '{plan.name}' has {len(plan.members)} backends; there is room for {room}"
            )

    def _require(self, what: str, wanted: int) -> None:
        room = self._tables.entries(what)
        if wanted > room:
            raise CapacityError(
                f"there is room for {room} {what}, and {wanted} are wanted: raise sizes.{what}"
            )
