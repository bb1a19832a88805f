# SPDX-License-Identifier: Apache-2.0
"""What a packet costs while another processor forwards for the same service, and while none does."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from dev.bench.baselines import BARE, BASELINE_A_INSERT, BASELINE_B, BASELINE_C, PORT, Baselines
from dev.bench.costs import CHUNK, NEW, SYNS, established_frame
from dev.bench.director_target import MH, PORTS, WLC, Fleet
from dev.bench.driven import Measure, bare_tx
from dev.bench.driver import Driver, Flows
from dev.bench.figure import Figure, Key
from dev.bench.frames import SYN, Frame, tcp
from dev.bench.samples import interleaved
from dev.bench.workload import Pace, Workload
from xdpdirector.lab.errors import LabError

FLOWS = (1 << 14, 1 << 17)
VARIANTS = (MH, WLC)
PROCESSORS = 2
_HOW = (
    "Kernel's mean per packet (whole ns) of BPF_PROG_TEST_RUN over a burst, on so many processors at once, on "
    "different packets of the same flows (new connections: of different flows); their mean. The driver's "
    "cost in the same arrangement is subtracted."
)
_ESTABLISHED, _NEW = (f"{Workload.TCP4}, on {{}}", f"{Workload.SYN}, on {{}}")


def established(program: str, flows: int, processors: int) -> Key:
    return Key(_ESTABLISHED.format(_words(processors)), program, flows)


def new(program: str, processors: int) -> Key:
    return Key(_NEW.format(_words(processors)), program)


def _words(processors: int) -> str:
    return "one processor" if processors == 1 else f"{processors} processors"


class Cores:
    """Measures ours, beside the baselines that do as much. Nothing where there is one processor."""

    def __init__(self, baselines: Baselines, fleet: Fleet, pace: Pace, cpus: Sequence[int]) -> None:
        """`cpus`: those that this process may run on."""
        self._baselines, self._fleet, self._pace = baselines, fleet, pace
        self._driver = Driver(baselines)
        self._cpus = [list(cpus)[-count:] for count in (1, PROCESSORS)] if len(cpus) >= PROCESSORS else []

    def run(self) -> Iterator[Figure]:
        for count in FLOWS:
            self._open(count)
            yield from self._measured([self._established(count, cpus) for cpus in self._cpus])
        yield from self._measured([self._new(cpus) for cpus in self._cpus])

    def _open(self, count: int) -> None:
        flows = Flows(count, random=False)
        for variant in VARIANTS:
            for start in range(0, count, CHUNK):
                for frame in established_frame(Workload.TCP4, PORTS[variant]):
                    self._driver.run(self._fleet[variant].function(), frame, flows, min(count, CHUNK), start)
        self._driver.run(self._baselines.baseline(BASELINE_A_INSERT), tcp(SYN, PORT), flows, count, 0)

    def _established(self, count: int, cpus: Sequence[int]) -> dict[Key, Measure]:
        flows, packets = Flows(count), max(self._pace.burst, 2 * count)
        cases: dict[Key, Measure] = {}
        for name in (BARE, BASELINE_B, BASELINE_C):
            _, frame = established_frame(Workload.TCP4, PORT)
            cases[established(name, count, len(cpus))] = self._burst(
                self._baselines.baseline(name), frame, flows, packets, cpus
            )
        for variant in VARIANTS:
            _, frame = established_frame(Workload.TCP4, PORTS[variant])
            cases[established(variant, count, len(cpus))] = self._ours(variant, frame, flows, packets, cpus)
        return cases

    def _new(self, cpus: Sequence[int]) -> dict[Key, Measure]:
        cases = {
            new(name, len(cpus)): self._burst(self._baselines.baseline(name), tcp(SYN, PORT), NEW, SYNS, cpus)
            for name in (BARE, BASELINE_A_INSERT)
        }
        for variant in VARIANTS:
            cases[new(variant, len(cpus))] = self._ours(variant, tcp(SYN, PORTS[variant]), NEW, SYNS, cpus)
        return cases

    def _burst(self, program: int, frame: Frame, flows: Flows, packets: int, cpus: Sequence[int]) -> Measure:
        """After one that is not timed."""

        def measure() -> float:
            self._driver.run_on(cpus, program, frame, flows, packets)
            results = self._driver.run_on(cpus, program, frame, flows, packets)
            return statistics.fmean(result.nanoseconds for result in results)

        return measure

    def _ours(self, variant: str, frame: Frame, flows: Flows, packets: int, cpus: Sequence[int]) -> Measure:
        """LabError when packets were not forwarded: another path would have been measured."""
        ours = self._fleet[variant]
        burst = self._burst(ours.function(), frame, flows, packets, cpus)

        def measure() -> float:
            before = ours.counted()
            cost = burst()
            grown = ours.counted_since(before)
            if strays := {name: n for name, n in grown.items() if not name.startswith("forward_")}:
                raise LabError(f"{variant}: packets went elsewhere: {strays}")
            return cost

        return measure

    def _measured(self, arrangements: Sequence[dict[Key, Measure]]) -> Iterator[Figure]:
        """All in the same rounds. What the driver costs is told for each arrangement by bare TX behind it."""
        direct = Key(Workload.NOTHING, BARE)
        cases: dict[Key, Measure] = {direct: bare_tx(self._baselines, self._pace)}
        for arrangement in arrangements:
            cases |= arrangement
        measured = interleaved(cases, self._pace.rounds)
        for arrangement in arrangements:
            (driven,) = (key for key in arrangement if key.program == BARE)
            cost = measured[driven].least - measured[direct].least
            for key in arrangement:
                if key != driven:
                    yield Figure(key, measured[key].less(cost), _HOW)
