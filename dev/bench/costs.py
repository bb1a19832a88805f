# SPDX-License-Identifier: Apache-2.0
"""What a packet costs in the kernel: established flows, new ones, and packets that are not for us."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from dev.bench import frames
from dev.bench.baselines import (
    BARE,
    BASELINE_A,
    BASELINE_A_INSERT,
    BASELINE_B,
    BASELINE_C,
    PORT,
    Baselines,
)
from dev.bench.director_target import (
    MH,
    PORTS,
    TUNNELS,
    VARIANTS,
    Fleet,
    Ours,
)
from dev.bench.driver import LOOPBACK, Driver, Flows
from dev.bench.figure import Figure, Key
from dev.bench.frames import ACK, SYN, Frame
from dev.bench.samples import Series, interleaved
from dev.bench.workload import Pace, Workload
from xdpdirector import libbpf
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.topology import VIP4, VIP6

OURS = "director"
CHUNK = 1 << 14  # flows that are opened before their next packet; all of them fit into `pending`
SYNS = 1 << 14
WARM_UP = range(1 << 13, (1 << 18) + 1)  # packets: twice the flows, within these bounds
NEW = Flows(1 << 22, first=1 << 22, random=False)  # nothing else has these numbers
STRAYS = 0.001
ALONE = 500  # runs

_HOW_DRIVEN = (
    "Kernel's mean per packet (whole ns) of BPF_PROG_TEST_RUN over a burst; a driver program sets client address "
    "and port of the next flow and tail-calls the program under test; the driver's own cost, measured in the same "
    "rounds with bare TX behind it, is subtracted."
)
_HOW_ESTABLISHED = (
    f"{_HOW_DRIVEN} Flows in random order; each was opened beforehand by its own first packets, and each burst "
    "follows one of twice as many packets as flows (at most 262,144) that is not timed."
)
_HOW_NEW = (
    f"{_HOW_DRIVEN} Every packet is a SYN of a flow not seen before, after as many that are not timed; the tables "
    "have room for all."
)
_HOW_ALONE = (
    "Kernel's time of BPF_PROG_TEST_RUN for a single run, the least of some hundred in each round, less that of "
    "bare TX: the frame of a repeated run would grow with each."
)
_HOW_DIRECT = (
    "Kernel's mean per packet (whole ns) of BPF_PROG_TEST_RUN over a burst of the same packet; no driver."
)


def established_frame(workload: Workload, port: int) -> tuple[Frame, Frame]:
    """The packet that opens a flow, and one of a running flow."""
    if workload is Workload.UDP4:
        return frames.udp(port), frames.udp(port)
    vip = VIP6 if workload is Workload.TCP6 else VIP4
    return frames.tcp(SYN, port, vip), frames.tcp(ACK, port, vip)


class Costs:
    """Measures ours beside the baselines."""

    def __init__(self, baselines: Baselines, fleet: Fleet, pace: Pace) -> None:
        self._baselines, self._fleet, self._pace = baselines, fleet, pace
        self._driver = Driver(baselines)
        self._fresh = 0
        self._paths: dict[Key, Counter[str]] = {}

    def established(self, *workloads: Workload, with_new: bool = False) -> Iterator[Figure]:
        """Running flows, in growing numbers; then new ones among the least and the most of them."""
        for count in self._pace.flows:
            self._open(workloads, count)
            cases: dict[Key, Callable[[], float]] = {}
            for workload in workloads:
                cases |= self._cases(workload, count)
            yield from self._driven(cases, _HOW_ESTABLISHED)
            if with_new and count in (self._pace.flows[0], self._pace.flows[-1]):
                yield from self._driven(self._new_cases(count), _HOW_NEW)

    def not_for_us(self) -> Iterator[Figure]:
        packets = {
            Workload.OTHER_ADDRESS: frames.tcp(ACK, PORT, frames.STRANGER4),
            Workload.OTHER_ADDRESS6: frames.tcp(ACK, PORT, frames.STRANGER6),
            Workload.OTHER_PORT: frames.tcp(ACK, 9, VIP4),
            Workload.ARP: frames.arp(),
        }
        cases: dict[Key, Callable[[], float]] = {
            Key(Workload.NOTHING, BARE): self._direct(self._baselines.baseline(BARE), frames.arp())
        }
        ours = self._fleet[MH]
        for workload, frame in packets.items():
            key = Key(workload, OURS)
            cases[key] = self._counted(key, ours, "pass", self._direct(ours.function(), frame))
        for key, series in interleaved(cases, self._pace.rounds).items():
            yield self._figure(key, series, _HOW_DIRECT)

    def tunnels(self) -> Iterator[Figure]:
        """A packet by its backend's MAC address, and through tunnels."""
        cases = {Key(Workload.ALONE, BARE): self._alone(self._baselines.baseline(BARE), frames.arp())}
        for variant in (MH, *TUNNELS):
            key, ours = Key(Workload.ALONE, variant), self._fleet[variant]
            frame = frames.tcp(ACK, PORTS[variant], VIP4)
            cases[key] = self._counted(key, ours, "forward", self._alone(ours.function(), frame))
        measured = interleaved(cases, self._pace.rounds)
        bare = measured.pop(Key(Workload.ALONE, BARE)).least
        for key, series in measured.items():
            yield self._figure(key, series.less(bare), _HOW_ALONE)

    def _alone(self, program: int, frame: Frame) -> Callable[[], float]:
        def measure() -> float:
            return min(libbpf.prog_test_run(program, frame.data, LOOPBACK).nanoseconds for _ in range(ALONE))

        return measure

    # Flows

    def _open(self, workloads: tuple[Workload, ...], count: int) -> None:
        """Every flow of these, by its own packets, in ours and in the baselines' table."""
        for workload in workloads:
            for variant in VARIANTS:
                self.open(workload, variant, count)
        if Workload.TCP4 in workloads:
            self._driver.run(
                self._baselines.baseline(BASELINE_A_INSERT),
                frames.tcp(SYN, PORT),
                Flows(count, random=False),
                count,
                0,
            )

    def open(self, workload: Workload, variant: str, count: int) -> None:
        """The first `count` flows of our variant; a power of two."""
        opening, following = established_frame(workload, PORTS[variant])
        flows = Flows(count, random=False)
        for start in range(0, count, CHUNK):
            for frame in (opening, following):
                self._driver.run(self._fleet[variant].function(), frame, flows, min(count, CHUNK), start)

    # Cases

    def _cases(self, workload: Workload, count: int) -> dict[Key, Callable[[], float]]:
        flows = Flows(count)
        _, frame = established_frame(workload, PORT)
        names = (BARE, BASELINE_A, BASELINE_B, BASELINE_C) if workload is Workload.TCP4 else (BARE,)
        cases = {
            Key(workload, name, count): self._burst(self._baselines.baseline(name), frame, flows)
            for name in names
        }
        for variant in VARIANTS:
            key = Key(workload, variant, count)
            _, frame = established_frame(workload, PORTS[variant])
            ours = self._fleet[variant]
            cases[key] = self._counted(key, ours, "forward", self._burst(ours.function(), frame, flows))
        return cases

    def _new_cases(self, count: int) -> dict[Key, Callable[[], float]]:
        frame = frames.tcp(SYN, PORT)
        cases = {
            Key(Workload.SYN, name, count): self._new(self._baselines.baseline(name), frame)
            for name in (BARE, BASELINE_A_INSERT)
        }
        for variant in VARIANTS:
            key = Key(Workload.SYN, variant, count)
            opening, _ = established_frame(Workload.TCP4, PORTS[variant])
            cases[key] = self._new_ours(key, opening)
        return cases

    def _burst(self, program: int, frame: Frame, flows: Flows) -> Callable[[], float]:
        warm_up = min(max(2 * flows.count, WARM_UP[0]), WARM_UP[-1])

        def measure() -> float:
            self._driver.run(program, frame, flows, warm_up)
            return self._driver.run(program, frame, flows, self._pace.burst).nanoseconds

        return measure

    def _new(self, program: int, frame: Frame) -> Callable[[], float]:
        def measure() -> float:
            self._driver.run(program, frame, NEW, SYNS, self._unseen())
            return self._driver.run(program, frame, NEW, SYNS).nanoseconds

        return measure

    def _new_ours(self, key: Key, frame: Frame) -> Callable[[], float]:
        """The flows never show a second packet, so they make room for those that are opened later."""
        ours = self._fleet[key.program]
        program = ours.function()
        timed = self._counted(
            key, ours, "forward", lambda: self._driver.run(program, frame, NEW, SYNS).nanoseconds
        )

        def measure() -> float:
            self._driver.run(program, frame, NEW, SYNS, self._unseen())
            return timed()

        return measure

    def _unseen(self) -> int:
        """The first of enough flows that were never sent."""
        self._fresh += 2 * SYNS
        return self._fresh - 2 * SYNS

    def _direct(self, program: int, frame: Frame) -> Callable[[], float]:
        def measure() -> float:
            return libbpf.prog_test_run(program, frame.data, LOOPBACK, repeat=self._pace.burst).nanoseconds

        return measure

    def _counted(
        self, key: Key, ours: Ours, verdict: str, measure: Callable[[], float]
    ) -> Callable[[], float]:
        """LabError when packets did not get that verdict: another path would have been measured."""

        def counting() -> float:
            before = ours.counted()
            cost = measure()
            grown = ours.counted_since(before)
            strays = sum(count for name, count in grown.items() if not name.startswith(f"{verdict}_"))
            if strays > STRAYS * grown.total():
                raise LabError(f"{key}: {strays} of {grown.total()} packets went elsewhere: {dict(grown)}")
            self._paths.setdefault(key, Counter()).update(grown)
            return cost

        return counting

    # Figures

    def _driven(self, cases: dict[Key, Callable[[], float]], how: str) -> Iterator[Figure]:
        """Without the driver's part. Bare TX behind the driver is what tells it."""
        bare = Key(Workload.NOTHING, BARE)
        direct = self._direct(self._baselines.baseline(BARE), frames.arp())
        measured = interleaved({bare: direct, **cases}, self._pace.rounds)
        harness = measured.pop(bare).least
        for key, series in measured.items():
            if key.program != BARE:
                driver = measured[key._replace(program=BARE)].least - harness
                yield self._figure(key, series.less(driver), how)

    def _figure(self, key: Key, series: Series, how: str) -> Figure:
        return Figure(key, series, how, paths=self._paths.get(key, Counter()))
