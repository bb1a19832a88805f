# SPDX-License-Identifier: Apache-2.0
"""The baseline programs of bpf/baselines.c, with maps filled so that every packet takes the whole way."""

from __future__ import annotations

from array import array
from pathlib import Path

from dev.bench.frames import FAR_MAC, NEAR_MAC
from dev.bench.loaded import Programs
from dev.bench.map_bytes import number, pack
from xdpdirector import libbpf
from xdpdirector.dataplane.maps import network16
from xdpdirector.lab.topology import VIP4
from xdpdirector.model import Sizes
from xdpdirector.model.listener import PROTOCOLS

SOURCE = Path(__file__).parents[2] / "bpf" / "baselines.c"
"""Of this checkout: it is in no wheel."""
PORT = 80
BACKENDS = 16

BARE, BASELINE_A, BASELINE_A_INSERT, BASELINE_B, BASELINE_C, REWRITE_ONLY = (
    "bare TX", "baseline A", "baseline A insert", "baseline B", "baseline C", "rewrite only",
)  # fmt: skip
_FUNCTIONS = {
    BARE: "bare",
    BASELINE_A: "baseline_a",
    BASELINE_A_INSERT: "baseline_a_insert",
    BASELINE_B: "program",
    BASELINE_C: "baseline_c",
    REWRITE_ONLY: "rewrite_only",
}


class Baselines(Programs):
    """The baselines by name, and the maps of the drivers."""

    def __init__(self, instance: str, sizes: Sizes) -> None:
        super().__init__(instance, sizes, SOURCE)
        try:
            self._fill()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def baseline(self, name: str) -> int:
        """The descriptor of a baseline by its name in the tables that the bench prints."""
        return self.function(_FUNCTIONS[name])

    def baseline_pin(self, name: str) -> str:
        return str(self.pin(_FUNCTIONS[name]))

    def received(self) -> int:
        """Frames that the sink has counted."""
        width = libbpf.map_info(self.map("received")).value_bytes
        raw = libbpf.lookup(self.map("received"), number(0), width) or bytes(width)
        return sum(memoryview(raw).cast("Q"))

    def _fill(self) -> None:
        maps = self.layout.maps
        listener = pack(
            maps["listeners"]["key"],
            address=VIP4.packed,
            port=network16(PORT),
            protocol=network16(PROTOCOLS["tcp"]),
        )
        service = pack(maps["listeners"]["value"], index=1, ring_start=0)
        libbpf.update(self.map("listeners"), listener, service)
        backend = pack(maps["backends"]["value"], addresses=FAR_MAC + NEAR_MAC)
        for index in range(BACKENDS):
            libbpf.update(self.map("backends"), number(index), backend)
        slots = array("I", range(maps["ring"]["max_entries"]))
        owners = array("I", (slot * 2654435761 % 2**32 % BACKENDS for slot in slots))
        libbpf.update_batch(self.map("ring"), slots.buffer_info()[0], owners.buffer_info()[0], len(slots))
