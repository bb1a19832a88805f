# SPDX-License-Identifier: Apache-2.0
"""A whole run of the bench, in order: load, measure in the kernel, over a cable, through the lab, judge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dev.bench.baselines import Baselines
from dev.bench.cores import Cores
from dev.bench.costs import Costs
from dev.bench.dashboard import dashboard
from dev.bench.director_target import MH, Fleet, Ours
from dev.bench.figure import Figure, by_key
from dev.bench.flapping import flapping
from dev.bench.fleet import fleet
from dev.bench.flood import Flood
from dev.bench.footprint import footprint
from dev.bench.goals import judge
from dev.bench.large import large
from dev.bench.live import Live
from dev.bench.machine import Machine, Stolen, allowed_cpus, pinned
from dev.bench.members import members
from dev.bench.report import Part, Program, Report
from dev.bench.servers import Servers
from dev.bench.services import services
from dev.bench.sync import sync
from dev.bench.wire import Wire
from dev.bench.workload import CALM, Pace, Workload
from xdpdirector.lab.lab import Lab
from xdpdirector.model import Sizes

Say = Callable[[str], None]
ENTRIES = 1 << 20  # of both tables of running connections, and of the baselines' own
SIZES = Sizes(connections=ENTRIES, connections6=ENTRIES)


@dataclass(frozen=True)
class Options:
    name: str = "bench"
    pace: Pace = CALM
    numbered: bool = False  # the name gets a number when somebody else has it


def run_bench(options: Options, say: Say) -> Report:
    """Everything is gone again afterwards; what a killed run left is cleared first, with the lab of that name."""
    begin, cpus, pace = time.monotonic(), allowed_cpus(), options.pace
    cpu = cpus[-1]
    machine, stolen = Machine.here(cpu), Stolen(cpu)
    figures: list[Figure] = []
    with Lab(options.name, backends=2, numbered=options.numbered) as lab:
        with Wire(lab.topology.name) as wire, pinned(cpu):
            say("compiling the baseline programs and the director's")
            with Baselines(f"{lab.topology.instance.name}-baselines", SIZES) as baselines:
                program = _in_kernel(options, baselines, wire, cpus, figures, say)
        if pace.server_rounds:
            say("real clients and servers: connections a second, upload and download")
            figures += Servers(lab, pace).run()
            say("the daemon with 100 services: memory, and how soon it is back")
            figures += footprint(lab, pace.server_rounds)
            say("the dashboard: its size, its first paint, and ten viewers")
            figures += dashboard(lab)
            say("the daemon with up to 4,096 services: applying, changing, memory, and how soon it is back")
            figures += large(lab)
            say("the API while 250 backends come and go once a second")
            figures += flapping(lab, pace.flapping_seconds)
    if pace.server_rounds:
        say("a fleet of five directors: how soon all have a change")
        figures += fleet(f"{options.name}_fleet")
    found = by_key(figures)
    verdicts = judge(found, pace, program.largest)
    return Report(machine, pace, program, found, verdicts, time.monotonic() - begin, stolen.share())


def _in_kernel(
    options: Options, baselines: Baselines, wire: Wire, cpus: list[int], figures: list[Figure], say: Say
) -> Program:
    """Loads the director's program anew where its tables must be empty."""
    pace = options.pace
    instance = f"{baselines.paths.name}-ours"
    drivers = (baselines.pin("drive4"), baselines.pin("drive6"))
    wire.keep(*drivers)
    with Fleet(instance, SIZES) as fleet:
        program = describe(fleet[MH])
        costs = Costs(baselines, fleet, pace)
        figures += _told(say, "packets that are not for us", costs.not_for_us())
        figures += _told(say, "packets that go through tunnels", costs.tunnels())
        what = f"established TCP and new flows, up to {pace.flows[-1]:,} flows, {pace.rounds} rounds"
        figures += _told(say, what, costs.established(Workload.TCP4, Workload.TCP6, with_new=True))
        what = "the same on one processor, and on two at once"
        figures += _told(say, what, Cores(baselines, fleet, pace, cpus).run())
        figures += _told(say, "packets over a cable", Live(wire, baselines, fleet, pace).run())
    wire.keep(*drivers)
    if pace.with_udp:
        with Fleet(instance, SIZES) as fleet:
            udp = Costs(baselines, fleet, pace).established(Workload.UDP4)
            figures += _told(say, "established UDP", udp)
    with Fleet(instance, SIZES) as fleet:
        figures += _told(say, f"a flood of {pace.flood:,} SYNs", Flood(baselines, fleet, pace).run())
    what = "new connections among 16 to 4,096 backends"
    figures += _told(say, what, members(baselines, f"{instance}-members", pace))
    what = "running connections of 1 to 1,024 services"
    figures += _told(say, what, services(baselines, f"{instance}-services", pace))
    if pace.sync_seconds:
        what = "connection sync: a million connections in bulk, and 20,000 new ones a second"
        figures += _told(say, what, sync(baselines, f"{instance}-sync", pace.sync_seconds))
    return program


def _told(say: Say, what: str, figures: Iterable[Figure]) -> Iterator[Figure]:
    say(what)
    yield from figures


def describe(ours: Ours) -> Program:
    maps = ours.layout.maps
    tables = [name for name in maps if name.startswith(("connections", "pending"))]
    return Program(
        [
            Part(part.name, part.verified_instructions, part.xlated_length, part.jited_length)
            for part in ours.parts()
        ],
        {name: maps[name]["max_entries"] for name in tables},
    )
