# SPDX-License-Identifier: Apache-2.0
"""How full the maps are, and whether a change fits into them, before anything is written. Changes nothing itself.

Indices that are not yet reusable also take room, for example those of backends that a ring still references.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from xdpdirector.dataplane.backend_map import BackendMap
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
        self,
        tables: Tables,
        indices: Indices,
        rings: Rings,
        listening: Listening,
        guarding: GuardMaps,
        backends: BackendMap,
    ) -> None:
        self._tables, self._indices, self._rings = tables, indices, rings
        self._listening, self._guarding, self._backends = listening, guarding, backends

    def fill(self) -> dict[str, Fill]:
        """Fill level of the maps with desired state, by their names in `sizes`; and of those whose size is fixed or
        follows from another one. `members`: of the service with the most backends. `fronts`: pairs of a VIP and a
        protocol, those included whose last connections are still known. `ports`: interfaces to backends."""
        sizes, services = self._tables.loaded.sizes, self._indices.services
        fronts = self._listening.fronts
        return {
            "services": Fill(entries=len(services), room=sizes.services),
            "backends": Fill(entries=len(self._indices.backends), room=sizes.backends),
            "listeners": Fill(entries=self._listening.entries, room=sizes.listeners),
            "members": Fill(
                entries=max(map(len, self._indices.places.values()), default=0), room=sizes.members
            ),
            "vips": Fill(entries=self._listening.vips, room=self._tables.entries("vips")),
            "fronts": Fill(entries=fronts.most - fronts.room(), room=fronts.most),
            "ports": Fill(entries=self._backends.ports, room=self._tables.entries("ports")),
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
        mentioned = self._rings.mentioned_without(going)
        if len(backends) + len(mentioned) + len(members) > self._tables.entries(
            "backends"
        ):  # it may be too many
            held = {backends[key] for key in backends.keys() - leaving}
            held.update(mentioned)
            self._require("backends", len(held) + len(members - backends.keys()))
        for name, spec in services.items():
            self.require_members(name, len(spec.backends))
        self._rings.require_room(
            {name: spec.ring_slots for name, spec in services.items() if spec.scheduler.is_ring}, going
        )
        self._listening.require_room(
            [(known.get(name), spec.listeners) for name, spec in services.items()],
            [known[name] for name in going],
        )

    def require_members(self, name: str, count: int) -> None:
        """Raise CapacityError if the service has too many backends."""
        room = self._tables.loaded.sizes.members
        if count > room:
            raise CapacityError(
                f"service '{name}' has {count} backends; there is room for {room}: raise sizes.members"
            )

    def _require(self, what: str, wanted: int) -> None:
        room = self._tables.entries(what)
        if wanted > room:
            raise CapacityError(
                f"there is room for {room} {what}, and {wanted} are wanted: raise sizes.{what}"
            )
