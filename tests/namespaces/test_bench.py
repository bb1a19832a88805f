# SPDX-License-Identifier: Apache-2.0
"""The bench at work, small and short: what it says of our program has sane structure. No time is asserted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from dev.bench.baselines import (
    BARE,
    BASELINE_A,
    BASELINE_A_INSERT,
    BASELINE_B,
    BASELINE_C,
    REWRITE_ONLY,
    Baselines,
)
from dev.bench.bench import describe
from dev.bench.costs import OURS, Costs
from dev.bench.director_target import MH, VARIANTS, WLC, Fleet
from dev.bench.driver import Driver, Flows
from dev.bench.figure import Figure, Key, by_key
from dev.bench.flood import Flood
from dev.bench.frames import ACK, tcp
from dev.bench.live import FLOWS, PACKETS_PER_SECOND, Live
from dev.bench.services import COUNTS, SMALL, USUAL, key, services
from dev.bench.wire import Wire
from dev.bench.workload import NOT_FOR_US, RUNNING, Pace, Workload
from xdpdirector.lab.lab import take_down
from xdpdirector.model import Sizes

pytestmark = [pytest.mark.root, pytest.mark.soak]

LAB = "t_bench"
SIZES = Sizes(connections=1 << 18, connections6=1 << 12, ring_slots=1 << 18)
PACE = Pace(
    flows=(1, 1 << 10),
    rounds=2,
    burst=1 << 10,
    flood=1 << 18,
    flood_bursts=2,
    live_seconds=0.2,
    live_rounds=1,
    server_rounds=0,
)


@dataclass
class Bench:
    wire: Wire
    baselines: Baselines
    fleet: Fleet


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """On a cable of its own; goes as a lab's things go, whatever happens."""
    take_down(LAB)
    try:
        with (
            Wire(LAB) as wire,
            Baselines(f"lab-{LAB}-baselines", SIZES) as baselines,
            Fleet(f"lab-{LAB}-ours", SIZES) as fleet,
        ):
            wire.keep(baselines.pin("drive4"), baselines.pin("drive6"))
            yield Bench(wire, baselines, fleet)
    finally:
        take_down(LAB)


@pytest.fixture(scope="module")
def baselines() -> Iterator[Baselines]:
    """Without a cable."""
    with Baselines(f"lab-{LAB}-alone", SIZES) as baselines:
        yield baselines


def sane(figure: Figure) -> bool:
    return 0 <= figure.series.least <= figure.series.median <= figure.series.most < 1_000_000 and bool(
        figure.how
    )


def test_instructions_are_counted_in_the_entry_and_in_every_stage(bench: Bench) -> None:
    ours = bench.fleet[MH]

    program = describe(ours)

    stages = {name.lower() for name in ours.layout.enums["stage"]} - {"stages"}
    assert {part.name for part in program.parts} == {"director", *stages}
    assert all(part.verified_instructions > 0 for part in program.parts)


def test_established_flows_and_new_ones_take_the_paths_that_are_meant(bench: Bench) -> None:
    costs = Costs(bench.baselines, bench.fleet, PACE)

    figures = by_key(costs.established(Workload.TCP4, with_new=True))

    assert all(sane(figure) for figure in figures.values())
    assert {key.program for key in figures} == {
        BASELINE_A,
        BASELINE_B,
        BASELINE_C,
        BASELINE_A_INSERT,
        *VARIANTS,
    }
    assert {key.flows for key in figures} == set(PACE.flows)
    paths = {program: set(figures[Key(Workload.TCP4, program, 1 << 10)].paths) for program in (MH, WLC)}
    assert paths == {MH: {"forward_ring"}, WLC: {"forward_connection"}}
    assert set(figures[Key(Workload.SYN, WLC, 1)].paths) == {"forward_new"}


def test_packets_that_are_not_for_us_pass(bench: Bench) -> None:
    figures = by_key(Costs(bench.baselines, bench.fleet, PACE).not_for_us())

    assert {key.workload for key in figures if key.program == OURS} == set(NOT_FOR_US)
    assert all(sane(figure) for figure in figures.values())
    assert Key(Workload.NOTHING, BARE) in figures


def test_a_flood_costs_something_and_loses_no_running_connection(bench: Bench) -> None:
    figures = by_key(Flood(bench.baselines, bench.fleet, PACE).run())

    assert all(figures[Key(Workload.LOST, variant)].best == 0 for variant in VARIANTS)
    assert all(sum(figures[Key(Workload.LOST, variant)].paths.values()) == RUNNING for variant in VARIANTS)
    assert all(sane(figures[Key(Workload.FLOOD, variant, PACE.flood)]) for variant in VARIANTS)


def test_flows_are_spread_over_services_by_the_lowest_bits_of_the_port(baselines: Baselines) -> None:
    driver, bare = Driver(baselines), baselines.baseline(BARE)

    def ports(count: int) -> list[int]:
        flows = Flows(8, random=False, services=count)
        sent = [driver.run(bare, tcp(ACK, 2048), flows, 1, start) for start in range(8)]
        return sorted(int.from_bytes(each.frame[36:38]) for each in sent)

    assert (ports(1), ports(4)) == ([2048] * 8, [2048, 2048, 2049, 2049, 2050, 2050, 2051, 2051])


def test_flows_of_many_services_follow_their_rings(baselines: Baselines) -> None:
    figures = by_key(services(baselines, f"lab-{LAB}-services", PACE))

    assert set(figures) == {key(slots, count) for slots in (USUAL, SMALL) for count in COUNTS}


def test_frames_come_back_over_the_cable(bench: Bench) -> None:
    figures = by_key(Live(bench.wire, bench.baselines, bench.fleet, PACE).run())

    assert {REWRITE_ONLY, BASELINE_C, *VARIANTS} <= {key.program for key in figures}
    assert all(figure.series.least > 0 and figure.unit == PACKETS_PER_SECOND for figure in figures.values())
    assert {key.flows for key in figures} == {FLOWS}
