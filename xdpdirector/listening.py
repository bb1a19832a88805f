# SPDX-License-Identifier: Apache-2.0
"""Which listeners lead to which service, and the VIPs that follow from them.

Remembers what stands in the maps, as reading them takes long; `check` looks again. Knows indices of services, but
nothing of what a service is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set

from xdpdirector.errors import CapacityError
from xdpdirector.model import Address, Listener
from xdpdirector.tables import Tables


class Listening:
    """`writes` grows with each listener that was set or deleted."""

    def __init__(self, tables: Tables) -> None:
        self.writes = 0
        self._tables = tables
        self._read()

    def has(self, service: int) -> bool:
        """Whether some listener leads to this service."""
        return bool(self._of[service])

    def require_room(self, service: int | None, wanted: Set[Listener]) -> None:
        """CapacityError when these would not fit."""
        own = set() if service is None else self._of[service]
        if wanted <= own:
            return
        all_then = (self._owners.keys() - own) | wanted
        for version in (4, 6):
            room = self._tables.entries(f"listeners{version}")
            if sum(listener.address.version == version for listener in all_then) > room:
                raise CapacityError(f"there is room for {room} IPv{version} listeners: raise sizes.listeners")
        if len({listener.address for listener in all_then}) > self._tables.entries("vips"):
            raise CapacityError(
                f"there is room for {self._tables.entries('vips')} VIPs: raise sizes.listeners"
            )

    def bring(self, service: int, wanted: Set[Listener]) -> None:
        """Exactly these listeners lead to the service, whoever had them before."""
        present = self._of[service]
        gone, missing = present - wanted, wanted - present
        if not gone and not missing:
            return
        for listener in gone:
            self._tables.delete_listener(listener)
            self._forget(listener)
        self._tables.set_vips(self._addresses() | {listener.address for listener in missing})
        for listener in missing:
            self._tables.set_listener(listener, service)
            self._forget(listener)
            self._owners[listener] = service
            self._of[service].add(listener)
        self.writes += len(gone) + len(missing)

    def check(self) -> None:
        """Read again what stands in the maps, where somebody else may have changed it; the next `bring` repairs
        listeners. VIPs are repaired here."""
        wanted = self._addresses()
        self._read()
        self._tables.set_vips(wanted | self._addresses())

    def _read(self) -> None:
        self._owners = self._tables.listeners()
        self._of: defaultdict[int, set[Listener]] = defaultdict(set)
        for listener, service in self._owners.items():
            self._of[service].add(listener)

    def _forget(self, listener: Listener) -> None:
        owner = self._owners.pop(listener, None)
        if owner is not None:
            self._of[owner].discard(listener)

    def _addresses(self) -> set[Address]:
        return {listener.address for listener in self._owners}
