# SPDX-License-Identifier: Apache-2.0
"""What the kernel holds of a director, as API and CLI show it: programs, maps, and what stands in them. Pure."""

from __future__ import annotations

from xdpdirector.model.fields import Frozen


class ProgramView(Frozen):
    """`tag`: the kernel's hash of the instructions; `verified`: how often the verifier looked at one of them
    (0 before Linux 5.16). `instructions`, and the bytes of `machine_code`, are 0 where the daemon may not know."""

    name: str
    id: int
    tag: str
    instructions: int
    verified: int
    machine_code: int


class CarrierView(Frozen):
    """An interface that carries the program; `current`: the one that is loaded now, and not an earlier one."""

    interface: str
    ifindex: int
    mode: str
    program_id: int
    current: bool


class MapView(Frozen):
    """`entries`: how many are in use, None where that says nothing; `room`: how many there can be, of
    connections in the tables of those, of bytes in a ring buffer."""

    name: str
    type: str
    id: int
    key_size: int
    value_size: int
    entries: int | None
    room: int


class BackendEntry(Frozen):
    """A backend as packets see it. `state`: `serving`, `down` or `maintenance`; `accepts`: takes new connections.
    `mac`: where its frames go; None when that is not known, or when it is the director itself (`local`)."""

    service: str
    backend: str
    index: int
    state: str
    accepts: bool
    local: bool
    mac: str | None
    source_mac: str | None
    interface: str | None
    vlan: int | None


class Holdings(Frozen):
    """`program`: the one that is loaded, with its digest; `stages`: ids of the programs that it goes on in;
    `explaining`: the one that explains, once somebody has asked. `own_macs`: of this machine, for whose frames the
    program looks, also what its interfaces had for MACs within the last minute; empty: any. `layout`: the digest of
    all that gives the maps their shape."""

    program: ProgramView
    program_digest: str
    stages: dict[str, int]
    explaining: ProgramView | None
    carriers: tuple[CarrierView, ...]
    layout: str
    bcc: str
    maps: tuple[MapView, ...]
    backends: tuple[BackendEntry, ...]
    own_macs: tuple[str, ...]
    ticks_per_second: int
    drift_repaired: int = 0
