# SPDX-License-Identifier: Apache-2.0
"""What the first packet of a connection costs with few backends in the service and with many."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dev.bench import frames
from dev.bench.baselines import BARE, Baselines
from dev.bench.director_target import FIRST_BACKEND, Ours
from dev.bench.driven import without_driver
from dev.bench.driver import LOOPBACK, Driver, Flows
from dev.bench.figure import Figure, Key
from dev.bench.frames import FAR_MAC, NEAR_MAC, SYN
from dev.bench.workload import Pace
from xdpdirector.control import planner
from xdpdirector.control.planner import BackendStatus
from xdpdirector.lab.topology import VIP4
from xdpdirector.model import ServiceSpec, Sizes
from xdpdirector.model.status import Operational
from xdpdirector.net.next_hop import Route

COUNTS = (16, 256, 4096)
SCHEDULERS = ("wlc", "wrr")
WORKLOAD = "SYN of a new flow, by backends"
ENTRIES = 1 << 20
SIZES = Sizes(connections=ENTRIES, backends=16384, members=COUNTS[-1])
_SYNS = 1 << 14
_FIRST_PORT = 7000
_HOW = (
    "Kernel's mean per packet (whole ns) of BPF_PROG_TEST_RUN over a burst of SYNs of flows not seen before, after "
    "as many that are not timed; the driver's own cost subtracted. All backends have weight 1 and are up."
)


def members(baselines: Baselines, instance: str, pace: Pace) -> Iterator[Figure]:
    """By scheduler and number of backends."""
    with Ours(instance, SIZES, ()) as ours:
        ports: dict[tuple[str, int], int] = {}
        for scheduler in SCHEDULERS:
            for count in COUNTS:
                port = ports[scheduler, count] = _FIRST_PORT + len(ports)
                _serve(ours, f"{scheduler}-{count}", scheduler, count, port)
        yield from _costs(Driver(baselines), baselines, ours, ports, pace)


def key(scheduler: str, count: int) -> Key:
    return Key(WORKLOAD, f"{scheduler}, {count:,} backends")


def _serve(ours: Ours, name: str, scheduler: str, count: int, port: int) -> None:
    backends = {f"b{n}": {"address": str(FIRST_BACKEND + n)} for n in range(count)}
    spec = ServiceSpec.model_validate(
        {
            "listeners": [f"{VIP4}:{port}/tcp"],
            "scheduler": scheduler,
            "backends": backends,
            "on_unknown": "drop",
        }
    )
    up = BackendStatus(Operational.UP, "", Route("neighbour", FAR_MAC, NEAR_MAC, LOOPBACK))
    ours.plane.apply(planner.plan(name, spec, dict.fromkeys(backends, up)), 0.0)


def _costs(
    driver: Driver, baselines: Baselines, ours: Ours, ports: dict[tuple[str, int], int], pace: Pace
) -> Iterator[Figure]:
    bare = baselines.baseline(BARE)

    def syns(program: int, port: int) -> Callable[[], float]:
        def measure() -> float:
            flows = Flows(1 << 22, first=1 << 22, random=False)
            driver.run(program, frames.tcp(SYN, port), flows, _SYNS)
            return driver.run(program, frames.tcp(SYN, port), flows, _SYNS).nanoseconds

        return measure

    cases = {key(*case): syns(ours.function(), port) for case, port in ports.items()}
    driven = syns(bare, _FIRST_PORT)
    yield from without_driver(baselines, ours, cases, driven, "forward_new", pace, _HOW)
