# SPDX-License-Identifier: Apache-2.0
"""The bench's pure parts: series, frames, packed entries, targets, and the report in its three forms."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether

from dev.bench import chart, frames
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
from dev.bench.dashboard import PAINT, SIZE
from dev.bench.director_target import MH, WLC, plan
from dev.bench.driver import Flows
from dev.bench.figure import (
    MEGABYTES,
    NANOSECONDS,
    SECONDS,
    Figure,
    Key,
    by_key,
)
from dev.bench.flapping import CHANGING, READING
from dev.bench.fleet import EVERYWHERE
from dev.bench.footprint import CHECKED, MEMORY, START
from dev.bench.goals import (
    FEW,
    MANY,
    Target,
    Verdict,
    judge,
    targets,
)
from dev.bench.large import APPLYING, BUSY, READY, SCRAPED, SIZES
from dev.bench.large import MEMORY as LARGE_MEMORY
from dev.bench.live import PACKETS_PER_SECOND
from dev.bench.machine import Machine, compiles, model_of
from dev.bench.map_bytes import pack
from dev.bench.members import COUNTS, SCHEDULERS
from dev.bench.members import key as by_members
from dev.bench.report import Part, Program, Report
from dev.bench.samples import Series, interleaved
from dev.bench.services import COUNTS as SERVICE_COUNTS
from dev.bench.services import SMALL, USUAL
from dev.bench.services import key as by_services
from dev.bench.show import summary
from dev.bench.sync import BULK, LAG, SENDING, TAKING
from dev.bench.workload import (
    CALM,
    NOT_FOR_US,
    QUICK,
    RUNNING,
    Workload,
)
from xdpdirector.lab.topology import VIP4, VIP6

TCP4, TCP6 = Workload.TCP4, Workload.TCP6


def figure(key: Key, *values: float, unit: str = NANOSECONDS) -> Figure:
    return Figure(
        key, Series.of(values), f"how {key.workload} was obtained", unit=unit, paths={"forward_ring": 7}
    )


GOOD: dict[Key, float] = {
    Key(Workload.NOTHING, BARE): 10,
    Key(TCP4, BASELINE_A, FEW): 300,
    Key(TCP4, BASELINE_B): 40,
    Key(TCP4, BASELINE_C): 32,
    Key(TCP4, MH): 40,
    Key(TCP4, MH, MANY): 50,
    Key(TCP4, WLC): 50,
    Key(TCP4, WLC, FEW): 300,
    Key(TCP6, MH): 52,
    Key(TCP6, WLC): 65,
    Key(Workload.FLOOD, BASELINE_A_INSERT, CALM.flood): 600,
    Key(Workload.FLOOD, MH, CALM.flood): 60,
    Key(Workload.FLOOD, WLC, CALM.flood): 300,
    **{Key(workload, OURS): 20 for workload in NOT_FOR_US},
    Key(Workload.LOST, MH): 0,
    Key(Workload.LOST, WLC): 0,
    MEMORY: 80,
    CHECKED: 85,
    START: 1.5,
    READING: 0.1,
    BULK: 3.5,
    LAG: 0.15,
    SENDING: 20,
    TAKING: 25,
    CHANGING: 0.1,
    EVERYWHERE: 0.4,
    **{by_members(scheduler, count): 300 for scheduler in SCHEDULERS for count in COUNTS},
    **{
        established(name, count, cpus): 50
        for name in (MH, WLC)
        for count in SHARED
        for cpus in (1, PROCESSORS)
    },
    **{new(name, cpus): 300 for name in (MH, WLC) for cpus in (1, PROCESSORS)},
    **{by_services(slots, count): 40 for slots in (USUAL, SMALL) for count in SERVICE_COUNTS},
    SIZE: 59,
    PAINT: 0.2,
    VIEWED: 4,
    **{size.key(APPLYING): 0.5 for size in SIZES},
    **{size.key(READY): 1.5 for size in SIZES},
    **{size.key(SCRAPED): 0.09 for size in SIZES},
    **{size.key(BUSY): 0.9 for size in SIZES},
    **{size.key(LARGE_MEMORY): 80 for size in SIZES},
}


def judged(instructions: int = 75_000) -> dict[str, Verdict]:
    """A good run's verdicts, by name."""
    figures = by_key(figure(key, value, value + 4) for key, value in GOOD.items())
    return {verdict.name: verdict for verdict in judge(figures, CALM, instructions)}


def with_value(key: Key, value: float) -> list[Verdict]:
    figures = by_key(figure(one, value if one == key else good) for one, good in GOOD.items())
    return judge(figures, CALM, 75_000)


@pytest.fixture
def report() -> Report:
    figures = by_key(
        [
            *(figure(key, value, value + 4) for key, value in GOOD.items()),
            figure(Key(Workload.LIVE, "rewrite only", FEW), 2e6, 3e6, unit=PACKETS_PER_SECOND),
            figure(Key(Workload.LIVE, MH, FEW), 1.5e6, 2.4e6, unit=PACKETS_PER_SECOND),
        ]
    )
    machine = Machine("A processor", "6.1.0", 2, 1, 0.5, True)
    parts = [Part("director", 150_000, 6_000, 5_000), Part("stage_answer", 60_000, 2_000, 1_000)]
    program = Program(parts, {"connections4": 1024})
    return Report(machine, CALM, program, figures, judge(figures, CALM, program.largest), 12.3, 0.01)


# Series


def test_a_series_says_its_least_median_and_most() -> None:
    series = Series.of([5, 1, 9, 3])

    assert (series.least, series.median, series.most) == (1, 4, 9)
    assert series.document() == {"min": 1, "median": 4, "max": 9, "samples": 4}


def test_a_constant_is_taken_from_every_value() -> None:
    assert Series.of([5, 8]).less(2).values == (3, 6)


def test_an_empty_series_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a value"):
        Series.of([])


def test_every_case_has_its_turn_in_every_round_in_changing_order() -> None:
    order: list[str] = []

    def case(name: str) -> float:
        order.append(name)
        return len(order)

    series = interleaved({name: partial(case, name) for name in "abc"}, 8)

    rounds = ["".join(order[start : start + 3]) for start in range(0, 24, 3)]
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert len(set(rounds)) > 1
    assert [len(each.values) for each in series.values()] == [8, 8, 8]


# Figures


def test_what_is_measured_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="measured twice: mh, established IPv4 TCP"):
        by_key([figure(Key(TCP4, MH), 1), figure(Key(TCP4, MH), 2)])


def test_the_best_cost_is_the_least_and_the_best_rate_the_most() -> None:
    cost, rate = figure(Key("a", "b"), 1, 2), figure(Key("c", "d"), 1, 2, unit=PACKETS_PER_SECOND)

    assert (cost.best, cost.worst, rate.best, rate.worst) == (1, 2, 2, 1)


# Entries and frames

SHAPE = {
    "size": 12,
    "fields": [
        {"name": "number", "offset": 0, "size": 4, "type": "u32"},
        {"name": "text", "offset": 6, "size": 4, "type": "bytes"},
    ],
}


def test_an_entry_is_packed_as_its_shape_says() -> None:
    assert pack(SHAPE, text=b"ab", number=1) == (1).to_bytes(4, "little") + b"\0\0ab\0\0\0\0"


@pytest.mark.parametrize("wrong", [{"other": 1}, {"text": b"abcde"}])
def test_an_entry_that_does_not_fit_is_refused(wrong: dict[str, int | bytes]) -> None:
    with pytest.raises((KeyError, ValueError)):
        pack(SHAPE, **wrong)


@pytest.mark.parametrize(("family", "vip"), [(4, VIP4), (6, VIP6)], ids=["IPv4", "IPv6"])
def test_a_segment_is_what_scapy_reads(family: int, vip: object) -> None:
    frame = frames.tcp(frames.SYN, 80, vip)  # type: ignore[arg-type]

    read = Ether(frame.data)
    network, segment = read[IP if family == 4 else IPv6], read[TCP]
    assert (frame.family, read.dst) == (family, frames.NEAR_MAC.hex(":"))
    assert (network.dst, segment.dport, segment.flags, segment.dataofs) == (str(vip), 80, "S", 5)


def test_a_datagram_is_what_scapy_reads() -> None:
    read = Ether(frames.udp(53).data)

    assert (read[IP].dst, read[UDP].dport, bytes(read[UDP].payload)[:8]) == (str(VIP4), 53, b"question")


def test_an_arp_request_asks_for_the_vip() -> None:
    assert Ether(frames.arp().data)[ARP].pdst == str(VIP4)


def test_flows_differ_in_port_and_then_in_address() -> None:
    read = [Ether(frames.flow(number, frames.ACK, 80).data) for number in (0, 63, 64)]

    assert [(each[IP].src, each[TCP].sport) for each in read] == [
        ("198.18.0.0", 1024),
        ("198.18.0.0", 1024 + 63 * 1009),
        ("198.18.0.1", 1024),
    ]


@pytest.mark.parametrize("count", [0, 3, 100])
def test_flows_come_in_powers_of_two(count: int) -> None:
    with pytest.raises(ValueError, match="not a power of two"):
        Flows(count)
    with pytest.raises(ValueError, match="not a power of two"):
        Flows(1, services=count)


def test_a_variants_plan_has_backends_that_take_connections() -> None:
    members = plan(WLC, ifindex=7).members

    assert all(member.accepts and member.hop and member.hop.ifindex == 7 for member in members)
    assert len(members) > 1


# Targets


def test_a_good_run_meets_every_target_but_the_prize() -> None:
    verdicts = judged().values()

    assert [verdict.name for verdict in verdicts if not verdict.met] == [
        "wlc at half of baseline A, 131,072 flows"
    ]
    assert all(verdict.word == "met" for verdict in verdicts if not verdict.is_prize)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (Key(TCP4, MH), 41),
        (Key(TCP4, MH, MANY), 51),
        (Key(TCP4, WLC), 51),
        (Key(TCP4, WLC, FEW), 301),
        (Key(TCP6, MH), 53),
        (Key(Workload.FLOOD, MH, CALM.flood), 301),
        (Key(Workload.FLOOD, WLC, CALM.flood), 301),
        (Key(Workload.ARP, OURS), 21),
        (established(WLC, SHARED[0], PROCESSORS), 58),
        (new(MH, PROCESSORS), 391),
        (Key(Workload.LOST, WLC), 1),
    ],
    ids=str,
)
def test_one_step_beyond_is_missed(key: Key, value: float) -> None:
    missed = [verdict for verdict in with_value(key, value) if verdict.met is False and not verdict.is_prize]

    assert len(missed) == 1
    assert missed[0].word == "missed"


def test_too_many_instructions_are_missed() -> None:
    assert judged(instructions=100_001)["verified instructions of the largest stage, of 100,000"].met is False


@pytest.mark.parametrize(
    ("key", "name", "least", "met"),
    [
        (MEMORY, "the daemon's memory, of 90 MB", 89.5, True),
        (MEMORY, "the daemon's memory, of 90 MB", 91.0, False),
        (CHECKED, "the same with checks, of 90 MB", 91.0, False),
        (START, "the daemon ready again, within 2 s", 1.9, True),
        (START, "the daemon ready again, within 2 s", 2.1, False),
        (READING, "API p99 while backends flap, reading, within 0.2 s", 0.19, True),
        (READING, "API p99 while backends flap, reading, within 0.2 s", 0.21, False),
        (SIZE, "the dashboard, of 60 kB", 60.1, False),
        (PAINT, "the dashboard's first paint, within 1 s", 0.9, True),
        (VIEWED, "the daemon with 10 viewers, of 5 % of a processor", 5.1, False),
        (CHANGING, "API p99 while backends flap, changing a weight, within 0.2 s", 0.21, False),
        (EVERYWHERE, "a change of a weight, until all of 5 directors have it, within 1 s", 0.9, True),
        (EVERYWHERE, "a change of a weight, until all of 5 directors have it, within 1 s", 1.1, False),
        (SIZES[-1].key(APPLYING), "4,096 services x 1, wlc: applied within 3 s", 3.1, False),
        (SIZES[0].key(BUSY), "200 services x 5, wlc: at rest, of 5 % of a processor", 4.9, True),
        (SIZES[0].key(BUSY), "200 services x 5, wlc: at rest, of 5 % of a processor", 5.1, False),
        (SIZES[0].key(SCRAPED), "200 services x 5, wlc: /metrics, within 0.1 s", 0.11, False),
        (SIZES[-1].key(SCRAPED), "4,096 services x 1, wlc: /metrics, within 0.41 s", 0.4, True),
    ],
)
def test_the_daemon_is_held_to_its_memory_start_and_answers(
    key: Key, name: str, least: float, met: bool
) -> None:
    unit = MEGABYTES if key in (MEMORY, CHECKED) else SECONDS

    verdicts = {verdict.name: verdict for verdict in judge(by_key([figure(key, least, unit=unit)]), CALM, 1)}

    assert verdicts[name].met is met


def test_nothing_measured_is_nothing_met_or_missed() -> None:
    assert {verdict.word for verdict in judge({}, QUICK, 0)} == {"not measured"}


def test_the_worst_pair_counts_and_is_named() -> None:
    target = Target("all", 2.0, [(Key("a", "x"), Key("b", "y")), (Key("c", "x"), Key("b", "y"))])
    figures = by_key(
        [figure(Key("a", "x"), 10), figure(Key("c", "x"), 30, 50), figure(Key("b", "y"), 10, 20)]
    )

    verdict = target.judged(figures)

    assert (verdict.ratio, verdict.median_ratio, verdict.met) == (3.0, 40 / 15, False)
    assert verdict.seen == "x, c: 30 ns; y, b: 10 ns"


@pytest.mark.parametrize("pace", [CALM, QUICK], ids=["calm", "quick"])
def test_every_target_is_about_flows_that_are_measured(pace: object) -> None:
    keys = {key for target in targets(pace) for pair in target.pairs for key in pair}  # type: ignore[arg-type]
    shared = {
        established(name, count, cpus) for name in (MH, WLC) for count in SHARED for cpus in (1, PROCESSORS)
    }

    assert {key.flows for key in keys - shared} <= {1, pace.flood, *pace.flows}  # type: ignore[attr-defined]


# The report


def test_the_document_is_json_with_a_sentence_for_each_figure(report: Report) -> None:
    document = json.loads(json.dumps(report.document()))

    assert len(document["figures"]) == len(GOOD) + 2
    assert all(each["how"] and each["min"] <= each["median"] <= each["max"] for each in document["figures"])
    assert {each["verdict"] for each in document["targets"]} == {"met", "missed"}
    assert document["machine"]["model"] == "A processor"
    assert document["pace"]["flood"] == CALM.flood


def shown(report: Report) -> str:
    console = Console(width=150, record=True, file=StringIO())
    console.print(summary(report))
    return console.export_text()


def test_the_tables_show_costs_rates_targets_and_how(report: Report) -> None:
    text = shown(report)

    for expected in (
        "A processor, 2 CPUs, kernel 6.1.0",
        "40 (42, 44)",  # mh with one flow
        "210,000 instructions verified (director 150,000, stage_answer 60,000), 1,000 translated, 6,000 bytes",
        "2,400,000",
        "80%",  # of the rewriting alone
        "MISSED    verified instructions",
        "no prize  wlc at half of baseline A",
        "how SYN flood was obtained",
        "51 of 52 targets met",
        f"of {RUNNING:,}",
    ):
        assert expected in text


def test_the_plot_has_a_line_for_each_program_and_fetches_nothing(report: Report) -> None:
    drawn = chart.svg(report)

    assert chart.lines(report)[MH] == {1: 40, MANY: 50}
    for name in (MH, WLC, BASELINE_A, BASELINE_B, BASELINE_C, "524,288"):
        assert f">{name}</text>" in drawn
    assert "src=" not in drawn
    assert "href=" not in drawn


def test_a_figure_that_is_missing_leaves_a_gap(report: Report) -> None:
    figures = {key: found for key, found in report.figures.items() if key.program != BARE}

    assert BASELINE_C in shown(replace(report, figures=figures))


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("processor : 0\nmodel name\t: Intel(R) Xeon(R)\n", "Intel(R) Xeon(R)"),
        ("Model\t\t: A board\n", "A board"),
    ],
)
def test_the_processor_is_named(text: str, model: str) -> None:
    assert model_of(text) == model


@pytest.mark.parametrize(
    ("setting", "compiled"), [("1\n", True), ("0\n", False), (None, None)], ids=["on", "off", "not shown"]
)
def test_a_network_namespace_need_not_say_whether_programs_are_compiled(
    tmp_path: Path, setting: str | None, compiled: bool | None
) -> None:
    if setting is not None:
        (tmp_path / "bpf_jit_enable").write_text(setting)

    assert compiles(tmp_path / "bpf_jit_enable") is compiled
