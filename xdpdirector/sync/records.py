# SPDX-License-Identifier: Apache-2.0
"""A connection's record on the wire, and the words of bpf/conntrack_types.h that it is made of.

Times travel as milliseconds before now, since two directors' clocks, and their kernels' tick rates, may differ.
Numbers of VIPs and backends are the sender's: `names` says what they mean. Knows bytes; no maps, no sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xdpdirector.dataplane.maps import Array

FLOW_OCTETS = {"connections4": 8, "connections6": 20}
"""Client, client port and port, as they stand in the packet."""
OLD = 0xFFFFFFFF
"""Age of a connection that was there before the director began to look, in milliseconds."""


def wire_type(table: str) -> np.dtype[Any]:
    """A record of a table. Integers are in network byte order. `front`: the number of service, VIP and protocol;
    `state`: enum connection_state of the sender; `idle`: milliseconds since its last packet; `age`: since its
    first one."""
    return np.dtype(
        [
            ("flow", "u1", (FLOW_OCTETS[table],)),
            ("front", ">u2"),
            ("backend", ">u2"),
            ("state", "u1"),
            ("idle", ">u4"),
            ("age", ">u4"),
        ]
    )


@dataclass(frozen=True)
class Ticks:
    """The unit in which records keep time: 64 jiffies, in 22 bits. `now`: the present, in jiffies."""

    hz: int
    shift: int
    bits: int

    def of(self, jiffies: int) -> int:
        return jiffies >> self.shift & self._mask

    def since(self, then: Array, now: int) -> Array:
        """Ticks from then to now; 0 for what another processor saw after now was read."""
        passed = (np.int64(now) - then.astype(np.int64)) & self._mask
        return np.where(passed > self._mask >> 1, 0, passed)

    def before(self, milliseconds: Array, now: int) -> Array:
        """The tick that was so long ago, at most half of the range."""
        passed = np.minimum(milliseconds.astype(np.int64) * self.hz // (1000 << self.shift), self._mask >> 1)
        return (np.int64(now) - passed) & self._mask

    def milliseconds(self, ticks: Array) -> Array:
        return ticks.astype(np.int64) * (1000 << self.shift) // self.hz

    @property
    def _mask(self) -> int:
        return (1 << self.bits) - 1


@dataclass(frozen=True)
class Fields:
    """Where the fields of a record's word are: name -> (shift, width)."""

    bits: Mapping[str, tuple[int, int]]

    def get(self, words: Array, name: str) -> Array:
        shift, width = self.bits[name]
        return words >> np.uint64(shift) & np.uint64((1 << width) - 1)

    def put(self, **values: Array) -> Array:
        """Words of these fields. All arrays are of one length."""
        words = np.zeros(len(next(iter(values.values()))), np.uint64)
        for name, value in values.items():
            shift, width = self.bits[name]
            words |= (value.astype(np.uint64) & np.uint64((1 << width) - 1)) << np.uint64(shift)
        return words

    def mask(self, name: str) -> int:
        shift, width = self.bits[name]
        return ((1 << width) - 1) << shift
