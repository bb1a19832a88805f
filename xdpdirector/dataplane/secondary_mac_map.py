# SPDX-License-Identifier: Apache-2.0
"""The map `secondary_macs`: MACs whose frames the packet program passes to the kernel (bpf/listener.h)."""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from xdpdirector.dataplane.maps import Array, Tables

MAP = "secondary_macs"


def write(tables: Tables, macs: Set[bytes]) -> None:
    """Make the map contain exactly these MACs, or as many as fit."""
    most = tables.loaded.maps[MAP]["max_entries"]
    wanted = {int.from_bytes(mac, "little") for mac in sorted(macs)[:most]}
    present = {int(key) for keys, _ in tables.read(MAP) for key in keys}
    tables.delete(MAP, _keys(present - wanted))
    tables.write(MAP, _keys(wanted - present), np.ones(len(wanted - present), np.uint32))


def _keys(numbers: Set[int]) -> Array:
    return np.array(sorted(numbers), np.uint64)
