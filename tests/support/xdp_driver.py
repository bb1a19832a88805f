# SPDX-License-Identifier: Apache-2.0
"""Many flows through the real program in one call, and where the frame of each of them went: see drive.c."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scapy.packet import Packet

import tests.support.world as w
from dev.bench.loaded import Programs
from dev.bench.map_bytes import number, pack
from xdpdirector import libbpf
from xdpdirector.dataplane.maps import dtype_of
from xdpdirector.model import Sizes

Words: TypeAlias = npt.NDArray[np.uint64]

SOURCE = Path(__file__).with_name("drive.c")
NOWHERE = 0


def mac_number(mac: bytes) -> int:
    return int.from_bytes(mac, "little")


STAYED = mac_number(w.mac(w.DIRECTOR_MAC))


class Driver:
    """Drives the program of `world`. A context manager."""

    def __init__(self, world: w.World) -> None:
        self._programs = Programs(f"drive-{os.getpid()}", Sizes(), SOURCE)
        self._target = libbpf.obj_get(world.tables.loaded.program)
        self._memory: list[mmap.mmap] = []
        self._flows, self._destinations = self._shared("flows"), self._shared("destinations")

    def __enter__(self) -> Driver:
        libbpf.update(self._programs.map("targets"), number(0), number(self._target))
        return self

    def __exit__(self, *_: object) -> None:
        del self._flows, self._destinations
        while self._memory:
            self._memory.pop().close()
        os.close(self._target)
        self._programs.__exit__(None, None, None)

    def aim(self, world: w.World) -> None:
        """Drive this world's program from now on."""
        os.close(self._target)
        self._target = libbpf.obj_get(world.tables.loaded.program)
        libbpf.update(self._programs.map("targets"), number(0), number(self._target))

    def _shared(self, name: str) -> Any:
        said = self._programs.layout.maps[name]
        memory = mmap.mmap(self._programs.map(name), said["max_entries"] * said["value_size"])
        self._memory.append(memory)
        return np.frombuffer(memory, dtype_of(said["value"]), said["max_entries"])

    def send(self, frame: Packet, clients: Any, ports: Any) -> Words:
        """This frame once from each of these clients (an IPv4 address, or the last 32 bits of an IPv6 one) and
        ports; the MACs that they left for, `STAYED` for those that were not forwarded."""
        count = len(clients)
        self._flows["client"][:count] = clients
        self._flows["client_port"][:count] = ports
        drive = pack(
            self._programs.layout.maps["drives"]["value"],
            turn=0,
            turns=count,
            destination=w.mac(w.DIRECTOR_MAC),
        )
        libbpf.update(self._programs.map("drives"), number(0), drive)
        result = libbpf.prog_test_run(self._programs.function(), bytes(frame), w.LOOPBACK, repeat=count + 1)
        assert result.verdict == libbpf.XdpVerdict.PASS, "the driver did not come to its end"
        return self._destinations[:count].copy()  # type: ignore[no-any-return]


assert sys.byteorder == "little", "drive.c writes MACs down so"
