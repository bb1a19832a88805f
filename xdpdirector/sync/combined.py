# SPDX-License-Identifier: Apache-2.0
"""Both ways by which connections come and go, as one for status: directors of this kind, and LVS directors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdpdirector.sync.status import FleetView, SyncSource

if TYPE_CHECKING:
    from xdpdirector.sync.ipvs.ipvs_sync import IpvsSync


class CombinedSync:
    """A `SyncSource` with what LVS directors send and get."""

    def __init__(self, fleet: SyncSource, lvs: IpvsSync) -> None:
        self._fleet, self._lvs = fleet, lvs

    def waiting(self) -> str:
        return self._fleet.waiting()

    def warnings(self) -> list[str]:
        return [*self._fleet.warnings(), *self._lvs.warnings()]

    def view(self) -> FleetView:
        return self._fleet.view().model_copy(update={"lvs": self._lvs.view()})

    async def flows_here(self) -> int | None:
        return await self._fleet.flows_here()
