# SPDX-License-Identifier: Apache-2.0
"""What the director is held to: ratios to baselines of the same run, judged on the minimums. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dev.bench.baselines import (
    BARE,
    BASELINE_A,
    BASELINE_A_INSERT,
    BASELINE_B,
    BASELINE_C,
)
from dev.bench.cores import FLOWS as SHARED
from dev.bench.cores import PROCESSORS, established, new
from dev.bench.costs import OURS
from dev.bench.dashboard import BUSY as VIEWED
from dev.bench.dashboard import PAINT, SIZE, VIEWERS
from dev.bench.director_target import MH, WLC
from dev.bench.figure import Figure, Figures, Key
from dev.bench.flapping import CHANGING, READING
from dev.bench.fleet import EVERYWHERE
from dev.bench.footprint import CHECKED, MEMORY, START
from dev.bench.large import APPLYING, BUSY, READY, SCRAPED, SIZES, Size
from dev.bench.large import MEMORY as LARGE_MEMORY
from dev.bench.members import COUNTS, SCHEDULERS
from dev.bench.members import key as by_members
from dev.bench.services import COUNTS as SERVICE_COUNTS
from dev.bench.services import SMALL, USUAL
from dev.bench.services import key as by_services
from dev.bench.sync import OWED as OWED_BY_SYNC
from dev.bench.workload import NOT_FOR_US, RUNNING, Pace, Workload

INSTRUCTIONS = 100_000  # of one program, a tenth of what the kernel walks before it gives up
MEGABYTES_OWED, SECONDS_OWED, ANSWER_OWED = 90, 2, 0.2
BUSY_OWED = 5
EVERYWHERE_OWED = 1  # seconds for five directors
SCRAPE_OWED = 0.1  # seconds for a thousand backends
KILOBYTES_OWED, PAINT_OWED = 60, 1
FEW, MANY = 1 << 17, 1 << 19


@dataclass(frozen=True)
class Verdict:
    """`ratio`: of minimums, `median_ratio`: of medians; None when it was not measured. `is_prize`: beyond what
    is owed."""

    name: str
    ratio: float | None
    median_ratio: float | None
    allowed: float
    seen: str
    is_prize: bool = False

    @property
    def met(self) -> bool | None:
        return None if self.ratio is None else self.ratio <= self.allowed

    @property
    def word(self) -> str:
        return {None: "not measured", True: "met", False: "missed"}[self.met]

    def document(self) -> dict[str, Any]:
        ratios = {"ratio": self.ratio, "median_ratio": self.median_ratio}
        rounded = {name: ratio if ratio is None else round(ratio, 3) for name, ratio in ratios.items()}
        return {**vars(self), **rounded, "verdict": self.word}


@dataclass(frozen=True)
class Target:
    """Each pair is (ours, what it is held to); the worst of those measured counts."""

    name: str
    allowed: float
    pairs: Sequence[tuple[Key, Key]]
    is_prize: bool = False

    def judged(self, figures: Figures) -> Verdict:
        measured = [pair for pair in self.pairs if pair[0] in figures and pair[1] in figures]
        if not measured:
            return Verdict(self.name, None, None, self.allowed, "", self.is_prize)
        ours, other = max(measured, key=lambda pair: _ratio(figures, pair))
        series, held_to = figures[ours].series, figures[other].series
        return Verdict(
            self.name,
            _ratio(figures, (ours, other)),
            series.median / held_to.median,
            self.allowed,
            f"{ours}: {series.least:.0f} ns; {other}: {held_to.least:.0f} ns",
            self.is_prize,
        )


def _ratio(figures: Figures, pair: tuple[Key, Key]) -> float:
    ours, other = pair
    return figures[ours].series.least / figures[other].series.least


def targets(pace: Pace) -> list[Target]:
    """Issue-wide promises about cost; which flows were measured is the pace's choice."""
    tcp4, tcp6 = Workload.TCP4, Workload.TCP6
    bare = Key(Workload.NOTHING, BARE)

    def flood(program: str) -> Key:
        return Key(Workload.FLOOD, program, pace.flood)

    return [
        Target("mh as cheap as baseline C, 1 flow", 1.25, [(Key(tcp4, MH), Key(tcp4, BASELINE_C))]),
        Target("mh flat: 524,288 flows against 1", 1.25, [(Key(tcp4, MH, MANY), Key(tcp4, MH))]),
        Target("wlc as cheap as baseline B, 1 flow", 1.25, [(Key(tcp4, WLC), Key(tcp4, BASELINE_B))]),
        Target(
            "wlc as cheap as baseline A, 131,072 flows",
            1.0,
            [(Key(tcp4, WLC, FEW), Key(tcp4, BASELINE_A, FEW))],
        ),
        Target(
            "wlc at half of baseline A, 131,072 flows",
            0.5,
            [(Key(tcp4, WLC, FEW), Key(tcp4, BASELINE_A, FEW))],
            True,
        ),
        *(
            Target(
                f"{name}: a SYN of a flood at half of baseline A",
                0.5,
                [(flood(name), flood(BASELINE_A_INSERT))],
            )
            for name in (MH, WLC)
        ),
        *(
            Target(
                f"{name}: a new connection among {COUNTS[-1]:,} backends against {COUNTS[0]}",
                1.5,
                [(by_members(name, count), by_members(name, COUNTS[0])) for count in COUNTS[1:]],
            )
            for name in SCHEDULERS
        ),
        *(
            Target(
                f"{name}: an established packet on {PROCESSORS} processors at once against one",
                1.15,
                [(established(name, count, PROCESSORS), established(name, count, 1)) for count in SHARED],
            )
            for name in (MH, WLC)
        ),
        *(
            Target(
                f"{name}: a new connection on {PROCESSORS} processors at once against one",
                1.3,
                [(new(name, PROCESSORS), new(name, 1))],
            )
            for name in (MH, WLC)
        ),
        Target(
            f"mh flat: {SERVICE_COUNTS[-1]:,} services with small rings against 1 service",
            1.5,
            [(by_services(SMALL, SERVICE_COUNTS[-1]), by_services(USUAL, 1))],
        ),
        Target("not for us at twice doing nothing", 2.0, [(Key(each, OURS), bare) for each in NOT_FOR_US]),
        *(
            Target(
                f"{name}: IPv6 near IPv4, any number of flows",
                1.3,
                [(Key(tcp6, name, count), Key(tcp4, name, count)) for count in pace.flows],
            )
            for name in (MH, WLC)
        ),
    ]


def lost(program: str, figures: Figures) -> Verdict:
    """None of the running connections may be lost in the flood."""
    name = f"{program}: connections lost in the flood, of {RUNNING:,}"
    figure = figures.get(Key(Workload.LOST, program))
    if figure is None:
        return Verdict(name, None, None, 0, "")
    return Verdict(name, figure.best, figure.series.median, 0, f"{figure.best:.0f} lost")


def verified(instructions: int) -> Verdict:
    """The kernel's verifier walks so many instructions of the largest stage (0: this kernel does not say).

    Each stage is a program of its own for it; together they say how long a load takes, which is measured."""
    name = f"verified instructions of the largest stage, of {INSTRUCTIONS:,}"
    if not instructions:
        return Verdict(name, None, None, 1.0, "")
    ratio = instructions / INSTRUCTIONS
    return Verdict(name, ratio, ratio, 1.0, f"{instructions:,}")


def daemon(figures: Figures) -> list[Verdict]:
    """With a hundred services and a thousand backends, and with one service whose 250 backends flap."""
    owed: dict[str, tuple[Key, float]] = {
        f"the daemon's memory, of {MEGABYTES_OWED} MB": (MEMORY, MEGABYTES_OWED),
        f"the same with checks, of {MEGABYTES_OWED} MB": (CHECKED, MEGABYTES_OWED),
        f"the daemon ready again, within {SECONDS_OWED} s": (START, SECONDS_OWED),
        f"the dashboard, of {KILOBYTES_OWED} kB": (SIZE, KILOBYTES_OWED),
        f"the dashboard's first paint, within {PAINT_OWED} s": (PAINT, PAINT_OWED),
        f"the daemon with {VIEWERS} viewers, of {BUSY_OWED} % of a processor": (VIEWED, BUSY_OWED),
        f"{READING.workload}, within {ANSWER_OWED} s": (READING, ANSWER_OWED),
        f"{CHANGING.workload}, within {ANSWER_OWED} s": (CHANGING, ANSWER_OWED),
        f"{EVERYWHERE.workload}, within {EVERYWHERE_OWED} s": (EVERYWHERE, EVERYWHERE_OWED),
    }
    for size in SIZES:
        owed |= {
            f"{size}: applied within {size.seconds_owed:g} s": (size.key(APPLYING), size.seconds_owed),
            f"{size}: at rest, of {BUSY_OWED} % of a processor": (size.key(BUSY), BUSY_OWED),
            f"{size}: memory, of {size.megabytes_owed:g} MB": (size.key(LARGE_MEMORY), size.megabytes_owed),
            f"{size}: /metrics, within {_scrape_owed(size):.2g} s": (size.key(SCRAPED), _scrape_owed(size)),
            f"{size}: ready again, within {SECONDS_OWED} s": (size.key(READY), SECONDS_OWED),
        }
    for key, amount in OWED_BY_SYNC.items():
        owed[f"{key.workload}, within {amount:g}"] = (key, amount)
    return [_within(name, figures.get(key), amount) for name, (key, amount) in owed.items()]


def _scrape_owed(size: Size) -> float:
    """The answer is as long as there are backends."""
    return SCRAPE_OWED * max(1.0, size.services * size.backends / 1000)


def _within(name: str, figure: Figure | None, amount: float) -> Verdict:
    if figure is None:
        return Verdict(name, None, None, 1.0, "")
    seen = f"{figure.best:.2f} {figure.unit}"
    return Verdict(name, figure.best / amount, figure.series.median / amount, 1.0, seen)


def judge(figures: Figures, pace: Pace, instructions: int) -> list[Verdict]:
    return [
        *(target.judged(figures) for target in targets(pace)),
        *(lost(program, figures) for program in (MH, WLC)),
        verified(instructions),
        *daemon(figures),
    ]
