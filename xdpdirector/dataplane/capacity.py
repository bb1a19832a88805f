# SPDX-License-Identifier: Apache-2.0
"""How full the maps are, and whether a change fits into them, before anything is written. Changes nothing itself.

Indices that are not yet reusable also take room, for example those of backends that a ring still references.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from xdpdirector.dataplane.guard_maps import GuardMaps
from xdpdirector.dataplane.ids import Indices
from xdpdirector.dataplane.listeners import Listening
from xdpdirector.dataplane.maps import Tables
from xdpdirector.dataplane.rings import Rings
from xdpdirector.errors import CapacityError
from xdpdirector.model import ServiceSpec
from xdpdirector.model.status import Fill


class Capacity:
    """Capacity checks of one data plane."""

    def __init__(
        self, tables: Tables, indices: Indices, rings: Rings, listening: Listening, guarding: GuardMaps
    ) -> None:
        self._tables, self._indices, self._rings = tables, indices, rings
        self._listening, self._guarding = listening, guarding

    def fill(self) -> dict[str, Fill]:
        """Fill level of the maps with desired state, by their names in `sizes`."""
        sizes, services = self._tables.loaded.sizes, self._indices.services
        return {
            "services": Fill(entries=len(services), room=sizes.services),
            "backends": Fill(entries=len(self._indices.backends), room=sizes.backends),
            "listeners": Fill(entries=self._listening.entries, room=sizes.listeners),
            "ring_slots": Fill(entries=self._rings.slots, room=sizes.ring_slots),
            "denied": Fill(entries=self._guarding.places, room=sizes.denied),
        }

    def require_room(self, services: Mapping[str, ServiceSpec], gone: Collection[str] = ()) -> None:
        """Raise CapacityError unless these services fit, replacing services of the same names, together with
        all other services, after the services in `gone` are removed."""
        known, backends = self._indices.services, self._indices.backends
        going = [name for name in gone if name in known]
        new = [name for name in services if name not in known]
        self._require("services", len(known) - len(going) + len(new))
        members = {(name, key) for name, spec in services.items() for key in spec.backends}
        leaving = {key for name in going for key in self._indices.of_service(name)}
        leaving |= {key for name in services for key in self._indices.of_service(name)} - members
        held = {backends[key] for key in backends.keys() - leaving}
        held.update(self._rings.mentioned_without(going))
        self._require("backends", len(held) + len(members - backends.keys()))
        for name, spec in services.items():
            self.require_members(name, len(spec.backends), is_ring=spec.scheduler.is_ring)
        self._rings.require_room(
            {name: spec.ring_slots for name, spec in services.items() if spec.scheduler.is_ring}, going
        )
        self._listening.require_room(
            [(known.get(name), frozenset(spec.listeners)) for name, spec in services.items()],
            [known[name] for name in going],
        )

    def require_members(self, name: str, count: int, *, is_ring: bool) -> None:
        """Raise CapacityError if the service has too many backends."""
        room = self._tables.members_each
        if not is_ring and count > room:
            raise CapacityError(f"service '{name}' has {count} backends; there is room for {room}")

    def _require(self, what: str, wanted: int) -> None:
        room = self._tables.entries(what)
        if wanted > room:
            raise CapacityError(
                f"there is room for {room} {what}, and {wanted} are wanted: raise sizes.{what}"
            )
