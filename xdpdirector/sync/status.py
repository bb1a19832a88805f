# SPDX-License-Identifier: Apache-2.0
"""What is known of the peers: types for status, API and metrics."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from pydantic import Field

from xdpdirector.model.fields import Frozen
from xdpdirector.model.fleet import DirectorReport, DirectorView, StoreView
from xdpdirector.sync.ipvs.status import LvsSyncView


class PeerState(StrEnum):
    """Of one direction. `connecting`: there is no connection; `refused`: the peer does not want one; `bulk`: all
    connections are under way; `synced`: only changes are."""

    CONNECTING = "connecting"
    REFUSED = "refused"
    BULK = "bulk"
    SYNCED = "synced"


class Direction(Frozen):
    """To or from a peer. `records`: how many travelled; `why`: the reason when it is not synced; `lag`: seconds
    from a scan until the peer had merged what it found."""

    state: PeerState = PeerState.CONNECTING
    why: str = ""
    records: int = 0
    lag: float | None = Field(default=None, description="Seconds from a scan until the peer had merged it")


class PeerStatus(Frozen):
    """A peer by its configured address. `version`: its release; `clock`: seconds by which its clock is ahead of
    this director's; `vips`: those that stand on it; null where it has not said.

    Records taken from it: `inserted`, `updated`, `kept` (ours were newer), `conflicts` (it chose another backend),
    `unknown` (service, VIP or backend is not here), `full` (no place)."""

    address: str
    name: str = ""
    version: str = ""
    clock: float | None = Field(default=None, description="Seconds by which its clock is ahead of this one")
    vips: tuple[str, ...] | None = None
    outgoing: Direction = Direction()
    incoming: Direction = Direction()
    inserted: int = 0
    updated: int = 0
    kept: int = 0
    conflicts: int = 0
    unknown: int = 0
    full: int = 0


class FleetView(Frozen):
    """The other directors. `name`: this director's; `version`, `vips`: its release, and the VIPs that stand on it;
    empty without `sync`. `peers`: those that connections are exchanged with; `waiting`: why this one is not ready
    yet, for their sake. `lvs`: LVS directors, with `lvs.sync`. `store`: where the desired state is; `directors`:
    those that share it and live, this one with them; `leaving`: those that were asked to leave for maintenance."""

    name: str = ""
    version: str = ""
    vips: tuple[str, ...] = ()
    fleet: str = ""
    waiting: str = ""
    peers: tuple[PeerStatus, ...] = ()
    lvs: LvsSyncView | None = None
    store: StoreView = StoreView()
    directors: tuple[DirectorReport, ...] = ()
    leaving: tuple[DirectorView, ...] = ()


class SyncSource(Protocol):
    """`xdpdirector.sync.connection_sync.ConnectionSync` is one."""

    def waiting(self) -> str:
        """Why this director should not be ready yet; empty when it may be."""

    def warnings(self) -> list[str]: ...

    def view(self) -> FleetView: ...

    async def flows_here(self) -> int | None:
        """How many running connections would lose something without this director: packets come through it, or no
        peer holds them. None where there are no peers."""


class NoSync:
    """Of a director without peers."""

    def waiting(self) -> str:
        return ""

    def warnings(self) -> list[str]:
        return []

    def view(self) -> FleetView:
        return FleetView()

    async def flows_here(self) -> int | None:
        return None
