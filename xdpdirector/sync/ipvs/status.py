# SPDX-License-Identifier: Apache-2.0
"""What is known of the IPVS sync: types for status, API and metrics."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from xdpdirector.model.fields import Frozen


class LvsTaken(Frozen):
    """What became of entries: `inserted` and `updated` are in our tables, `kept`: ours was newer; `conflicts`: ours
    has another backend; `full`: there was no place."""

    inserted: int = 0
    updated: int = 0
    kept: int = 0
    conflicts: int = 0
    full: int = 0


class LvsRejected(Frozen):
    """Entries that nothing here fits. `reason` is one of `no_service`, `no_fwmark`, `no_backend`, `no_persistence`,
    `method`, `port`, `state`, `engine`, `one_packet` and `option`; `example` is a sentence about the last one."""

    reason: str
    entries: int
    example: str


class LvsIncoming(Frozen):
    """What came from LVS directors. `why`: what is wrong with the socket; empty when it is open."""

    why: str = ""
    datagrams: int = 0
    foreign: int = Field(default=0, description="Datagrams with another syncid")
    malformed: int = Field(default=0, description="Datagrams of which the rest was not read")
    malformed_example: str = ""
    lost: int = Field(default=0, description="Datagrams that came faster than they could be taken")
    heard: float | None = Field(default=None, description="Seconds since the last datagram")
    connections: LvsTaken = LvsTaken()
    templates: LvsTaken = LvsTaken()
    rejected: tuple[LvsRejected, ...] = ()


class LvsOutgoing(Frozen):
    """What went to LVS directors. `why`: what is wrong with the socket; empty when it is open."""

    why: str = ""
    datagrams: int = 0
    entries: int = 0
    unsent: int = Field(default=0, description="Datagrams that the interface did not take")


class LvsSyncView(Frozen):
    """The sync protocol of IPVS, as `lvs.sync` of the configuration has it."""

    role: Literal["backup", "master", "both"]
    interface: str
    syncid: int
    group: str
    incoming: LvsIncoming | None = None
    outgoing: LvsOutgoing | None = None
