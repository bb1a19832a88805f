# SPDX-License-Identifier: Apache-2.0
"""Packets per second over a cable: sent as live frames, forwarded in native mode, counted where they arrive."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.bench import frames
from dev.bench.baselines import (
    BASELINE_B,
    BASELINE_C,
    PORT,
    REWRITE_ONLY,
    Baselines,
)
from dev.bench.costs import Costs
from dev.bench.director_target import PORTS, VARIANTS, Fleet
from dev.bench.driver import Driver, Flows
from dev.bench.figure import Figure, Key
from dev.bench.frames import ACK, Frame
from dev.bench.samples import Series
from dev.bench.wire import INTERFACE, Wire
from dev.bench.workload import Pace, Workload
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import run

FLOWS = 1 << 17
PACKETS_PER_SECOND = "packets/s"
_WINDOW = 0.05
_SETTLING = 0.2
_HOW = (
    "Frames of established flows in random order, sent by test-run's live frames from one end of a veth pair, "
    "rewritten and returned (XDP_TX, native) at the other, counted and dropped by a program at the first, all on "
    f"one CPU. Counts over windows of {_WINDOW * 1000:.0f} ms."
)


class Live:
    def __init__(self, wire: Wire, baselines: Baselines, fleet: Fleet, pace: Pace) -> None:
        self._wire, self._baselines, self._fleet, self._pace = wire, baselines, fleet, pace
        self._driver = Driver(baselines)

    def run(self) -> Iterator[Figure]:
        """Leaves our services on the cable."""
        costs = Costs(self._baselines, self._fleet, self._pace)
        for variant in VARIANTS:
            costs.open(Workload.TCP4, variant, FLOWS)
        wire = self._wire
        for ours in self._fleet.instances:
            module = "dev.bench.veth_backends"
            run(*wire.python(wire.near, module, ours.paths.name, INTERFACE, *ours.variants))
        wire.attach(wire.far, self._baselines.pin("sink"))
        wire.keep(self._baselines.pin("generate"))
        ways = self._ways()
        windows: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(self._pace.live_rounds):
            for name, (program, frame) in ways.items():
                windows[name] += self._measure(name, program, frame)
        for name, values in windows.items():
            key = Key(Workload.LIVE, name, FLOWS)
            yield Figure(key, Series.of(values), _HOW, unit=PACKETS_PER_SECOND)

    def _ways(self) -> dict[str, tuple[Path, Frame]]:
        frame = frames.tcp(ACK, PORT)
        baselines = {
            name: (Path(self._baselines.baseline_pin(name)), frame)
            for name in (REWRITE_ONLY, BASELINE_C, BASELINE_B)
        }
        ours = {name: (self._fleet[name].pin(), frames.tcp(ACK, PORTS[name])) for name in VARIANTS}
        return baselines | ours

    def _measure(self, name: str, program: Path, frame: Frame) -> list[float]:
        self._wire.attach(self._wire.near, program)
        self._driver.set(Flows(FLOWS))
        with self._generating(frame) as child:
            time.sleep(_SETTLING)
            rates = self._rates()
            if child.poll() is not None:
                raise LabError(f"the generator of packets ended with status {child.returncode}")
        if not all(rates):
            raise LabError(f"{name}: no packet came back over the cable")
        return rates

    @contextmanager
    def _generating(self, frame: Frame) -> Iterator[subprocess.Popen[bytes]]:
        module = "dev.bench.generator"
        pin = str(self._baselines.pin("generate"))
        command = self._wire.python(self._wire.far, module, pin, INTERFACE, frame.data.hex())
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        try:
            self._await_first()
            yield child
        finally:
            child.kill()
            child.wait()

    def _await_first(self) -> None:
        begin, deadline = self._baselines.received(), time.monotonic() + 5
        while self._baselines.received() == begin and time.monotonic() < deadline:
            time.sleep(0.01)

    def _rates(self) -> list[float]:
        rates = []
        count, moment = self._baselines.received(), time.perf_counter()
        end = moment + self._pace.live_seconds
        while moment < end:
            time.sleep(_WINDOW)
            now_count, now = self._baselines.received(), time.perf_counter()
            rates.append((now_count - count) / (now - moment))
            count, moment = now_count, now
        return rates
