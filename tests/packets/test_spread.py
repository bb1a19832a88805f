# SPDX-License-Identifier: Apache-2.0
"""How evenly flows spread over the slots of a ring, as the program itself places them.

Slots get owners that tell them apart, in two rounds: by the slot's number divided by 256, and by what remains.
Where a flow's frame left for in both says which slot it has.
"""

from __future__ import annotations

from ipaddress import ip_address

import numpy as np
import numpy.typing as npt
import pytest
from scapy.packet import Packet

import tests.support.world as w
from tests.support.xdp_driver import Driver, mac_number
from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.service_plan import Hop, MemberPlan, ServicePlan, State
from xdpdirector.model import Scheduler

SLOTS = 65521  # the largest prime of two digits
OWNERS = 256
FIRST_CLIENT = int(ip_address("198.18.0.0"))
MANY = np.arange(1 << 19)
FEW = np.arange(1024, 65536)

# Clients (the last 32 bits of the address) and their ports.
PATTERNS = {
    "a few connections each, ports far apart": (FIRST_CLIENT + MANY // 64, 1024 + MANY % 64 * 1009),
    "a few connections each, ports in a row": (FIRST_CLIENT + MANY // 64, 32768 + MANY % 64),
    "one client, all its ports": (np.full(len(FEW), FIRST_CLIENT), FEW),
    "a few busy clients, even ports": (FIRST_CLIENT + MANY // 14000, 32768 + MANY % 14000 * 2),
    "neighbours, the same port": (FIRST_CLIENT + MANY, np.full(len(MANY), 40000)),
    "one in each network, the same port": (FIRST_CLIENT + MANY * 256, np.full(len(MANY), 40000)),
    "neighbours, ports in a row": (FIRST_CLIENT + MANY, 1024 + MANY % len(FEW)),
}
FRAMES = {"IPv4": w.tcp("PA"), "IPv6": w.tcp6("PA"), "UDP": w.udp()}


def mac(number: int) -> bytes:
    return bytes((2, 0, 0, 0, 1 + number // 256, number % 256))


MACS = np.array([mac_number(mac(number)) for number in range(OWNERS)], np.uint64)


def owned(**changes: object) -> ServicePlan:
    """A ring with an owner for each number that a round tells apart."""
    members = tuple(
        MemberPlan(
            f"web{number}",
            ip_address("192.0.2.21"),
            1,
            State.SERVING,
            True,
            Hop(mac(number), w.mac(w.DIRECTOR_MAC), w.LOOPBACK),
        )
        for number in range(OWNERS)
    )
    return w.service(scheduler=Scheduler.MH, ring_slots=SLOTS, members=members, **changes)


def slots(
    world: w.World,
    driver: Driver,
    frame: Packet,
    clients: npt.NDArray[np.int64],
    ports: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Which slot each flow has."""
    indices = world.plane.indices
    backends = np.array([indices.backends["web", f"web{number}"] for number in range(OWNERS)], np.uint64)
    ring = world.plane.rings.region(indices.services["web"])
    digits = []
    for owners in np.divmod(np.arange(SLOTS), 256):
        words = service_plan.pack(backends[owners], service_plan.NO_BACKEND, 0)
        service_plan.store(world.tables.ring[ring], world.tables.owners[ring], words)
        places = np.searchsorted(np.sort(MACS), driver.send(frame, clients, ports))
        digits.append(np.argsort(MACS)[places])
    return digits[0] * 256 + digits[1]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("family", FRAMES)
def test_flows_spread_as_evenly_as_by_chance(
    large_world: w.World, driver: Driver, family: str, pattern: str
) -> None:
    large_world.empty()
    large_world.apply(owned())
    clients, ports = PATTERNS[pattern]

    counts = np.bincount(slots(large_world, driver, FRAMES[family], clients, ports), minlength=SLOTS)

    mean = len(clients) / SLOTS
    assert len(counts) == SLOTS
    assert ((counts - mean) ** 2).sum() / mean < 1.5 * SLOTS  # chi-square: SLOTS, give or take 360
    assert (counts > 0).mean() > 0.99 * (1 - np.exp(-mean))
    assert counts.max() < mean + 8 * np.sqrt(mean)  # by chance once in thousands of runs


@pytest.mark.parametrize("family", FRAMES)
def test_clients_spread_where_their_ports_do_not_count(
    large_world: w.World, driver: Driver, family: str
) -> None:
    large_world.empty()
    large_world.apply(owned(hashes_port=False))
    clients, ports = PATTERNS["neighbours, ports in a row"]

    found = slots(large_world, driver, FRAMES[family], clients, ports)
    again = slots(large_world, driver, FRAMES[family], clients, ports[::-1])

    counts, mean = np.bincount(found, minlength=SLOTS), len(clients) / SLOTS
    assert (found == again).all()
    assert ((counts - mean) ** 2).sum() / mean < 1.5 * SLOTS
    assert (counts > 0).mean() > 0.99 * (1 - np.exp(-mean))
