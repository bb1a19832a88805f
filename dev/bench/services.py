# SPDX-License-Identifier: Apache-2.0
"""What a packet of a running connection costs where flows are spread over many services, each with a ring."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dev.bench import frames
from dev.bench.baselines import BARE, Baselines
from dev.bench.director_target import FIRST_BACKEND, MH, Ours
from dev.bench.driven import without_driver
from dev.bench.driver import LOOPBACK, Driver, Flows
from dev.bench.figure import Figure, Key
from dev.bench.frames import ACK, FAR_MAC, NEAR_MAC
from dev.bench.workload import Pace
from xdpdirector.control import planner
from xdpdirector.control.planner import BackendStatus
from xdpdirector.lab.topology import VIP4
from xdpdirector.model import ServiceSpec, Sizes
from xdpdirector.model.status import Operational
from xdpdirector.net.next_hop import Route

COUNTS = (1, 128, 1024)
"""Services that have the flows; powers of two, as the driver tells them apart by bits of the port."""
USUAL, SMALL = int(ServiceSpec.model_fields["ring_slots"].default), 251
"""Slots of a ring."""
BACKENDS = 4  # of each service
FLOWS = 1 << 17
WORKLOAD = "established IPv4 TCP, by services"
SIZES = Sizes(
    services=2 * COUNTS[-1],
    listeners=2 * COUNTS[-1],
    backends=2 * COUNTS[-1] * BACKENDS,
    ring_slots=COUNTS[-1] * (USUAL + SMALL),
    connections=1 << 12,
    connections6=1 << 12,
)
_FIRST_PORT = {USUAL: 2 * COUNTS[-1], SMALL: 3 * COUNTS[-1]}  # multiples of the number of services
_WARM_UP = 2 * FLOWS
_HOW = (
    "Kernel's mean per packet (whole ns) of BPF_PROG_TEST_RUN over a burst of packets of running connections in "
    f"random order, after {_WARM_UP:,} that are not timed; the driver's own cost subtracted. There are "
    f"{SIZES.services:,} services with {BACKENDS} backends each, half with rings of {USUAL:,} slots and half of "
    f"{SMALL}; the flows are those of so many of them."
)


def services(baselines: Baselines, instance: str, pace: Pace) -> Iterator[Figure]:
    """By slots of a ring, and number of services."""
    with Ours(instance, SIZES, ()) as ours:
        for slots, port in _FIRST_PORT.items():
            for number in range(COUNTS[-1]):
                _serve(ours, slots, port + number)
        yield from _costs(Driver(baselines), baselines, ours, pace)


def key(slots: int, count: int) -> Key:
    return Key(WORKLOAD, f"{MH}, {slots:,} slots, {count:,} service{'s' if count > 1 else ''}", FLOWS)


def _serve(ours: Ours, slots: int, port: int) -> None:
    backends = {f"b{n}": {"address": str(FIRST_BACKEND + n)} for n in range(BACKENDS)}
    spec = ServiceSpec.model_validate(
        {
            "listeners": [f"{VIP4}:{port}/tcp"],
            "scheduler": "mh",
            "ring_slots": slots,
            "backends": backends,
        }
    )
    up = BackendStatus(Operational.UP, "", Route("neighbour", FAR_MAC, NEAR_MAC, LOOPBACK))
    ours.plane.apply(planner.plan(str(port), spec, dict.fromkeys(backends, up)), 0.0)


def _costs(driver: Driver, baselines: Baselines, ours: Ours, pace: Pace) -> Iterator[Figure]:
    bare = baselines.baseline(BARE)

    def packets(program: int, slots: int, count: int) -> Callable[[], float]:
        frame, flows = frames.tcp(ACK, _FIRST_PORT[slots]), Flows(FLOWS, services=count)

        def measure() -> float:
            driver.run(program, frame, flows, _WARM_UP)
            return driver.run(program, frame, flows, pace.burst).nanoseconds

        return measure

    cases = {
        key(slots, count): packets(ours.function(), slots, count) for slots in _FIRST_PORT for count in COUNTS
    }
    driven = packets(bare, USUAL, COUNTS[-1])
    yield from without_driver(baselines, ours, cases, driven, "forward_ring", pace, _HOW)
