# SPDX-License-Identifier: Apache-2.0
"""Runs a program many times in the kernel, each time on the frame of another flow.

The drivers of bpf/baselines.c change the frame and then go on in the program under test by a tail call, so it is
measured as it is. Knows nothing of what the programs do.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from dev.bench.baselines import Baselines
from dev.bench.frames import CLIENT_MAC, NEAR_MAC, Frame
from dev.bench.machine import allowed_cpus, pinned
from dev.bench.map_bytes import number, pack
from xdpdirector import libbpf
from xdpdirector.libbpf import RunResult, XdpVerdict

LOOPBACK = 1
_FUNCTIONS = {4: "drive4", 6: "drive6"}


@dataclass(frozen=True)
class Flows:
    """`count` flows, a power of two, from number `first` on; in random order or each once in turn. `services`, a
    power of two: so many ports are theirs, the frame's and those that differ from it in the lowest bits."""

    count: int
    first: int = 0
    random: bool = True
    services: int = 1

    def __post_init__(self) -> None:
        for amount in (self.count, self.services):
            if amount < 1 or amount & (amount - 1):
                raise ValueError(f"{amount} is not a power of two")


class Driver:
    def __init__(self, baselines: Baselines) -> None:
        self._baselines = baselines
        self._next = 0
        self._target = -1

    def run(
        self, program: int, frame: Frame, flows: Flows, packets: int, start: int | None = None
    ) -> RunResult:
        """Send so many packets of these flows; goes on with the next flow, or at the one numbered `start`."""
        self.set(flows, self._next if start is None else start)
        self._aim(program)
        self._next = (self._next if start is None else start) + packets
        with pinned(allowed_cpus()[-1]):
            return self._run(frame, packets)

    def run_on(
        self, cpus: Sequence[int], program: int, frame: Frame, flows: Flows, packets: int
    ) -> list[RunResult]:
        """Send so many packets on each of these CPUs, on all at once; each goes on with the flows that follow those
        of the one before."""
        self._aim(program)
        begin = threading.Barrier(len(cpus))

        def run(cpu: int) -> RunResult:
            with pinned(cpu):
                begin.wait()
                return self._run(frame, packets)

        starts = [self._next + packets * place for place in range(len(cpus))]
        self._next += packets * len(cpus)
        self.set(flows, dict(zip(cpus, starts, strict=True)))
        with ThreadPoolExecutor(len(cpus)) as pool:
            return list(pool.map(run, cpus))

    def _aim(self, program: int) -> None:
        if program != self._target:
            libbpf.update(self._baselines.map("targets"), number(0), number(program))
            self._target = program

    def _run(self, frame: Frame, packets: int) -> RunResult:
        """Each CPU has a next flow of its own: a thread that changed it would send flows again."""
        result = libbpf.prog_test_run(
            self._baselines.function(_FUNCTIONS[frame.family]), frame.data, LOOPBACK, repeat=packets
        )
        assert result.verdict != XdpVerdict.ABORTED, "the driver does not know this frame"
        return result

    def set(self, flows: Flows, starts: int | Mapping[int, int] = 0) -> None:
        """What the drivers, and the generator, send from now on, from flow number `starts` on, or from that of each
        CPU."""
        drives = [
            pack(
                self._baselines.layout.maps["drives"]["value"],
                next=starts if isinstance(starts, int) else starts.get(cpu, 0),
                first=flows.first,
                mask=flows.count - 1,
                random=int(flows.random),
                services=flows.services - 1,
                addresses=NEAR_MAC + CLIENT_MAC,
            )
            for cpu in range(libbpf.possible_cpus())
        ]
        libbpf.update(self._baselines.map("drives"), number(0), b"".join(drives))
