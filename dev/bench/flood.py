# SPDX-License-Identifier: Apache-2.0
"""A flood of SYNs, each of another flow: what one of them costs, and what becomes of running connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dev.bench import frames
from dev.bench.baselines import BARE, BASELINE_A_INSERT, PORT, Baselines
from dev.bench.costs import Costs
from dev.bench.director_target import PORTS, VARIANTS, Fleet
from dev.bench.driver import LOOPBACK, Driver, Flows
from dev.bench.figure import LOST, Figure, Key
from dev.bench.frames import ACK, SYN
from dev.bench.samples import Series, interleaved
from dev.bench.workload import RUNNING, Pace, Workload
from xdpdirector import libbpf

ETHERNET = 12  # bytes that say where a frame went
_OPENED = 1 << 14  # flows that run meanwhile: the power of two above RUNNING


class Flood:
    """On programs of ours that nothing has filled yet."""

    def __init__(self, baselines: Baselines, fleet: Fleet, pace: Pace) -> None:
        self._baselines, self._fleet, self._pace = baselines, fleet, pace
        self._driver, self._costs = Driver(baselines), Costs(baselines, fleet, pace)
        self._first = _OPENED  # SYNs begin behind the running connections
        self._burst = pace.flood // pace.flood_bursts

    def run(self) -> Iterator[Figure]:
        for variant in VARIANTS:
            self._costs.open(Workload.TCP4, variant, _OPENED)
        before = {variant: self._owners(variant) for variant in VARIANTS}
        self._fill_limit()
        measured = interleaved(self._cases(), self._pace.flood_bursts)
        driver = measured.pop(BARE).least - self._bare()
        for program, series in measured.items():
            yield Figure(Key(Workload.FLOOD, program, self._pace.flood), series.less(driver), self._how)
        for variant in VARIANTS:
            yield self._lost(variant, before[variant])

    @property
    def _how(self) -> str:
        return (
            f"Kernel's mean per packet of BPF_PROG_TEST_RUN, in {self._pace.flood_bursts} bursts of "
            f"{self._burst:,} SYNs, all of different flows ({self._pace.flood:,} for each program), the driver's "
            "own cost subtracted; baseline A's table is full before, so that each insertion evicts."
        )

    def _cases(self) -> dict[str, Callable[[], float]]:
        cases = {
            name: self._send(name, self._baselines.baseline(name), PORT) for name in (BARE, BASELINE_A_INSERT)
        }
        return cases | {
            variant: self._send(variant, self._fleet[variant].function(), PORTS[variant])
            for variant in VARIANTS
        }

    def _send(self, name: str, program: int, port: int) -> Callable[[], float]:
        """Each call sends the next burst of this program's flood."""
        sent = 0
        frame, flows = frames.tcp(SYN, port), Flows(self._pace.flood, self._first, random=False)

        def measure() -> float:
            nonlocal sent
            sent += self._burst
            return self._driver.run(program, frame, flows, self._burst, sent - self._burst).nanoseconds

        return measure

    def _fill_limit(self) -> None:
        size = self._baselines.layout.maps["flows"]["max_entries"]
        flows = Flows(1 << (size - 1).bit_length(), first=1 << 22, random=False)
        frame = frames.tcp(SYN, PORT)
        self._driver.run(self._baselines.baseline(BASELINE_A_INSERT), frame, flows, flows.count, 0)

    def _bare(self) -> float:
        program, frame = self._baselines.baseline(BARE), frames.arp().data
        runs = range(self._pace.rounds)
        return Series.of(
            libbpf.prog_test_run(program, frame, LOOPBACK, repeat=self._pace.burst).nanoseconds for _ in runs
        ).least

    # Running connections

    def _owners(self, variant: str) -> list[bytes]:
        """Where a packet of each running connection goes: verdict and Ethernet addresses."""
        program, port = self._fleet[variant].function(), PORTS[variant]
        owners = []
        for number in range(RUNNING):
            result = libbpf.prog_test_run(program, frames.flow(number, ACK, port).data, LOOPBACK)
            owners.append(bytes([result.verdict]) + result.frame[:ETHERNET])
        return owners

    def _lost(self, variant: str, before: list[bytes]) -> Figure:
        ours = self._fleet[variant]
        counted = ours.counted()
        after = self._owners(variant)
        paths = ours.counted_since(counted)
        lost = sum(was != is_ for was, is_ in zip(before, after, strict=True))
        how = (
            f"Of {RUNNING:,} established connections, those whose next packet after the flood of "
            f"{self._pace.flood:,} SYNs got another verdict or other Ethernet addresses than before."
        )
        return Figure(Key(Workload.LOST, variant), Series.of([lost]), how, unit=LOST, paths=paths)
