# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.versus_ipvs.run`: measure all targets in this guest; one JSON document.

The guest's clock counts instructions (QEMU's -icount, one a nanosecond), so nanoseconds of its clock between
the first frame sent and the last one received, over the frames, are instructions for each packet: of sending it,
of two crossings of the cable, and of what forwards it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict

from pyroute2 import netns

from dev.bench import frames
from dev.bench.baselines import PORT, REWRITE_ONLY, Baselines
from dev.bench.director_target import MH, PORTS, WLC, Ours
from dev.bench.driver import Driver, Flows
from dev.bench.frames import ACK, SYN, Frame
from dev.bench.wire import INTERFACE, Wire
from dev.versus_ipvs.account import (
    DROPPED,
    ESTABLISHED,
    NEW,
    Figure,
    Plan,
)
from dev.versus_ipvs.targets import Ipvs, Target, Xdp, prepare_for_ipvs
from xdpdirector import libbpf
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import run
from xdpdirector.model import Sizes

NAME = "versus"
SIZES = Sizes(connections=1 << 20)
CHUNK = 1 << 14  # flows that are opened at a time: a table of half-open ones need not hold more
MODULES = (("ip_vs", "conn_tab_bits=20"), ("ip_vs_wlc",), ("ip_vs_mh",))
IPVS_PORTS = {WLC: 8081, MH: 8080}
LOST = 1e-3  # at most so large a share


class Cable:
    """Sends from the far end, in whose namespace this process is, and counts there."""

    def __init__(self, baselines: Baselines) -> None:
        self._baselines = baselines
        self._driver = Driver(baselines)
        self._index = socket.if_nametoindex(INTERFACE)
        self._program = baselines.function("generate_summed")

    def cross(self, frame: Frame, flows: Flows, packets: int, start: int = 0) -> float:
        """Nanoseconds of the guest's clock for each frame that arrived; LabError when some did not."""
        self._driver.set(flows, start)
        before, began = self._baselines.received(), time.monotonic_ns()
        libbpf.prog_test_run(self._program, frame.data, self._index, repeat=packets, live=True)
        arrived, ended = self._baselines.received() - before, time.monotonic_ns()
        if arrived < packets * (1 - LOST):
            raise LabError(f"only {arrived} of {packets} frames came over the cable")
        return (ended - began) / arrived


def open_flows(cable: Cable, port: int, first: int, end: int) -> None:
    """A SYN, an ACK and a packet with which the connection goes on for each flow up to number end - 1; those before
    `first` are open already."""
    size = min(CHUNK, end)
    for begin in range(first // size * size, end, size):
        for flags in (SYN, ACK, ACK):
            cable.cross(frames.tcp(flags, port), Flows(size, begin, random=False), size)


def measure(cable: Cable, target: Target, plan: Plan) -> list[Figure]:
    """Established flows, then new ones; the figures of all rounds."""
    found, opened = [], 0
    for count in plan.flows:
        open_flows(cable, target.port, opened, count)
        opened = count
        values = [
            cable.cross(frames.tcp(ACK, target.port), Flows(count), plan.packets, number * plan.packets)
            for number in range(plan.rounds)
        ]
        found.append(Figure(target.name, ESTABLISHED, count, values))
    fresh = 2 * plan.flows[-1]  # flow numbers that nobody has used
    values = []
    for number in range(plan.rounds):
        flows = Flows(plan.packets, fresh + number * plan.packets, random=False)
        values.append(cable.cross(frames.tcp(SYN, target.port), flows, plan.packets))
    return [*found, Figure(target.name, NEW, plan.packets, values)]


def prepare_machine() -> None:
    """Load IPVS; and let no generator run while received frames wait, or they are lost: the kernel's thread for
    them (ksoftirqd) goes first."""
    for module in MODULES:
        run("modprobe", *module)
    for thread in run("pgrep", "^ksoftirqd/").stdout.split():
        os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(1))


def contest(plan: Plan) -> list[Figure]:
    prepare_machine()
    with ExitStack() as stack:
        wire = stack.enter_context(Wire(NAME))
        baselines = stack.enter_context(Baselines(f"{NAME}-baselines", SIZES))
        ours = stack.enter_context(Ours(f"{NAME}-ours", SIZES, (MH, WLC)))
        run(*wire.python(wire.near, "dev.bench.veth_backends", ours.paths.name, INTERFACE, MH, WLC))
        prepare_for_ipvs(wire)
        wire.attach(wire.far, baselines.pin("sink"))
        wire.keep(baselines.pin("generate_summed"))
        targets: list[Target] = [
            *(Xdp(f"XDP Director {name}", PORTS[name], wire, ours.pin()) for name in (MH, WLC)),
            *(Ipvs(f"IPVS {name}", IPVS_PORTS[name], wire, name) for name in (MH, WLC)),
        ]
        netns.setns(wire.far.namespace)
        cable = Cable(baselines)
        found = []
        for name, program in (
            (DROPPED, baselines.pin("sink")),
            (REWRITE_ONLY, baselines.pin("rewrite_only")),
        ):
            with Xdp(name, PORT, wire, program).forwarding():
                frame, one = frames.tcp(ACK, PORT), Flows(1)
                cable.cross(frame, one, plan.packets)
                values = [cable.cross(frame, one, plan.packets) for _ in range(plan.rounds)]
            found.append(Figure(name, ESTABLISHED, 1, values))
        for target in targets:
            print(f"measuring {target.name}", file=sys.stderr, flush=True)
            with target.forwarding():
                found += measure(cable, target, plan)
        return found


def main(plan: str) -> None:
    figures = contest(Plan(**json.loads(plan)))
    print(json.dumps([asdict(figure) for figure in figures]))


if __name__ == "__main__":
    main(*sys.argv[1:])
