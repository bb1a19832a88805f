# SPDX-License-Identifier: Apache-2.0
"""What the kernel holds of a director, as API and CLI show it: programs, maps and their entries. Pure."""

from __future__ import annotations

from xdpdirector.model.fields import Frozen


class ProgramView(Frozen):
    """`tag`: the kernel's hash of the instructions. `verified`: instructions processed by the verifier (0
    before Linux 5.16). `instructions` and `machine_code` (bytes) are 0 if the daemon lacks the privilege to
    read them."""

    name: str
    id: int
    tag: str
    instructions: int
    verified: int
    machine_code: int


class CarrierView(Frozen):
    """An interface with the program attached. `current`: the program is the loaded one, not an earlier one."""

    interface: str
    ifindex: int
    mode: str
    program_id: int
    current: bool


class MapView(Frozen):
    """`entries`: how many are in use, None if not applicable. `room`: the capacity; connections for conntrack
    tables, bytes for a ring buffer."""

    name: str
    type: str
    id: int
    key_size: int
    value_size: int
    entries: int | None
    room: int


class BackendEntry(Frozen):
    """A backend as the packet path sees it. `state`: `serving`, `down` or `maintenance`. `accepts`: takes new
    connections. `mac`: destination MAC of its frames; None if unknown, or if the backend is the director
    itself (`local`). `tunnel`: `ipip` or `gue`, None for direct routing."""

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
    tunnel: str | None = None


class Holdings(Frozen):
    """`program`: the loaded program, `program_digest`: its digest. `stages`: ids of its tail-called programs.
    `explaining`: the explaining program, None before its first use. `own_macs`: destination MACs that the
    program accepts, including MACs that an interface had within the last minute; empty: any. `layout`: digest
    of everything that determines the layout of the maps."""

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
