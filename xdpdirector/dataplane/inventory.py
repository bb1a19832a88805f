# SPDX-License-Identifier: Apache-2.0
"""Lists what the kernel holds: programs, attachments, maps with their fill level, backends.

Reads only. Counting iterates over whole hash maps: run it outside the event loop. Does not know the desired
state.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from xdpdirector import libbpf
from xdpdirector.dataplane.backend_map import VLAN_AS_IT_CAME
from xdpdirector.dataplane.conntrack import TABLES as CONNECTIONS
from xdpdirector.dataplane.conntrack import Records
from xdpdirector.dataplane.ids import Indices
from xdpdirector.dataplane.inventory_types import (
    BackendEntry,
    CarrierView,
    Holdings,
    MapView,
    ProgramView,
)
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Tables
from xdpdirector.libbpf import MapType
from xdpdirector.loader import attachment, bpffs, source
from xdpdirector.loader.build import Build
from xdpdirector.model.status import Fill
from xdpdirector.net import own_macs
from xdpdirector.paths import InstancePaths

_COUNTED = {MapType.HASH, MapType.LRU_HASH, MapType.LPM_TRIE}
_FILLED = {"ring": "ring_slots"}
_ROOM_BY_FILL = {*CONNECTIONS, "members", "fronts"}
"""Maps that have room for more, or less, than they have entries."""


def take(
    paths: InstancePaths,
    tables: Tables,
    records: Records,
    indices: Indices,
    clock: Clock,
    fill: Mapping[str, Fill],
) -> Holdings:
    """`fill`: known fill levels, by map name, of maps that cannot be counted. OSError."""
    loaded = tables.loaded
    fill = {**fill, **_connections(tables, records)}
    explaining = next(paths.pins.glob(f"{bpffs.EXPLAINING}*"), None)
    return Holdings(
        program=_program("director", loaded.program),
        program_digest=loaded.program_digest,
        stages=_stages(paths, tables),
        explaining=_program("explain", explaining) if explaining else None,
        carriers=tuple(
            CarrierView(
                interface=found.interface,
                ifindex=found.ifindex,
                mode=found.mode,
                program_id=found.program_id,
                current=found.program_id == loaded.program_id,
            )
            for found in attachment.attachments(paths)
        ),
        layout=loaded.layout_digest,
        bcc=loaded.bcc,
        maps=tuple(_map(tables, name, fill) for name in sorted(loaded.maps)),
        backends=tuple(_backend(tables, key, index) for key, index in sorted(indices.backends.items())),
        own_macs=tuple(mac.hex(":") for mac in own_macs.read(tables.stations)),
        ticks_per_second=clock.hz,
    )


def _program(name: str, pin: Path) -> ProgramView:
    with libbpf.opened(pin) as fd:
        info = libbpf.prog_info(fd)
    return ProgramView(
        name=name,
        id=info.id,
        tag=info.tag,
        instructions=info.xlated_length // 8,
        verified=info.verified_instructions,
        machine_code=info.jited_length,
    )


def _stages(paths: InstancePaths, tables: Tables) -> dict[str, int]:
    """Program ids by stage name. Empty unless the loaded program is the installed one."""
    loaded = tables.loaded
    build = Build(paths, loaded.sizes, source.program(), has_frags=loaded.has_frags)
    if build.program_digest != loaded.program_digest:
        return {}
    with libbpf.opened(loaded.pins / "stages") as fd:
        found = {
            name.removeprefix("STAGE_").lower(): libbpf.lookup(
                fd, (build.stages_at + number).to_bytes(4, sys.byteorder), 4
            )
            for name, number in loaded.enums["stage"].items()
            if name != "STAGES"
        }
    return {name: int.from_bytes(raw, sys.byteorder) for name, raw in found.items() if raw}


def _map(tables: Tables, name: str, fill: Mapping[str, Fill]) -> MapView:
    with libbpf.opened(tables.loaded.pins / name) as fd:
        info = libbpf.map_info(fd)
    known = fill.get(_FILLED.get(name, name))
    if info.type in _COUNTED:
        entries: int | None = sum(len(keys) for keys, _ in tables.read(name))
    else:
        entries = known.entries if known else None
    return MapView(
        name=name,
        type=MapType(info.type).name.lower(),
        id=info.id,
        key_size=info.key_size,
        value_size=info.value_size,
        entries=entries,
        room=known.room if known and name in _ROOM_BY_FILL else info.max_entries,
    )


def _connections(tables: Tables, records: Records) -> dict[str, Fill]:
    """Fill of the conntrack tables, whose map entries are buckets of several records."""
    counts = dict.fromkeys(CONNECTIONS, 0)
    for rows in records.read():
        counts[CONNECTIONS[int(rows["ipv6"][0])]] += len(rows)
    return {
        name: Fill(entries=count, room=tables.entries(name) * _ways(tables, name))
        for name, count in counts.items()
    }


def _ways(tables: Tables, name: str) -> int:
    (entries,) = tables.loaded.maps[name]["value"]["fields"]
    return int(entries["count"])


def _backend(tables: Tables, key: tuple[str, str], index: int) -> BackendEntry:
    entry, flags = tables.backends[index], tables.enums["backend_flags"]
    has = {name: bool(int(entry["flags"]) & bit) for name, bit in flags.items()}
    states = {number: name for name, number in tables.enums["backend_state"].items()}
    is_known = has["BACKEND_RESOLVED"] or has["BACKEND_TUNNEL"]
    addresses = entry["addresses"].tobytes() if is_known else b""
    kinds = {number: name for name, number in tables.enums["tunnel_kind"].items()}
    tunnel = kinds[int(tables.tunnels[index]["kind"])] if has["BACKEND_TUNNEL"] else None
    vlan = int(entry["vlan"])
    return BackendEntry(
        service=key[0],
        backend=key[1],
        index=index,
        state=states[int(entry["state"])].removeprefix("BACKEND_").lower(),
        accepts=has["BACKEND_ACCEPTS"],
        local=has["BACKEND_LOCAL"],
        mac=addresses[:6].hex(":") or None,
        source_mac=addresses[6:].hex(":") or None,
        interface=_interface(int(entry["ifindex"])),
        vlan=None if vlan == VLAN_AS_IT_CAME else vlan,
        tunnel=tunnel.removeprefix("TUNNEL_").lower() if tunnel else None,
    )


def _interface(ifindex: int) -> str | None:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return None
