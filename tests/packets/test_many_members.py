# SPDX-License-Identifier: Apache-2.0
"""Services with many backends: who is drawn, how even the loads become, and that who takes connections is found."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.support.world as w
from tests.packets.reference.frame import dissect
from tests.packets.reference.state import Service
from tests.support.sizes import SMALL
from xdpdirector.dataplane.service_plan import Hop, MemberPlan, ServicePlan
from xdpdirector.errors import CapacityError
from xdpdirector.model import Scheduler

MANY = 90
FEW_OF_MANY = 40
MOST = 4096
CLIENTS = int(ip_address("198.18.0.0"))
WIDE = SMALL.model_copy(update={"backends": 2 * MOST, "members": MOST, "connections": 1 << 16})


def member(number: int, weight: int = 1, **changes: object) -> MemberPlan:
    """Its number is in its MAC."""
    hop = Hop(b"\x02\0\0\1" + struct.pack("!H", number), w.mac(w.DIRECTOR_MAC), w.LOOPBACK)
    plain = replace(
        w.backend("web1"), name=f"b{number}", address=ip_address("198.51.100.0") + number, hop=hop
    )
    return replace(plain, **{"weight": max(weight, 1), "accepts": weight > 0} | changes)


def pool(scheduler: str, weights: list[int], **changes: object) -> ServicePlan:
    members = tuple(member(number, weight) for number, weight in enumerate(weights))
    return w.service(scheduler=Scheduler(scheduler), **{"members": members} | changes)


def owner(outcome: w.Outcome) -> int:
    assert outcome.frame[:4] == b"\x02\0\0\1", outcome.reason
    return int(struct.unpack("!H", outcome.frame[4:6])[0])


def opened(world: w.World, count: int, first: int = 1) -> list[int]:
    """Open so many connections, each from a client of its own; who got them. Checksums are not looked at."""
    frame, owners = bytearray(bytes(w.tcp("S"))), []
    for number in range(first, first + count):
        frame[26:30] = struct.pack("!I", CLIENTS + number)
        owners.append(owner(world.send(bytes(frame))))
    return owners


@pytest.fixture(scope="module")
def wide_world() -> Iterator[w.World]:
    with w.worlds("wide", 1, WIDE) as (world,):
        yield world


@pytest.mark.parametrize("scheduler", ["rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf"])
@settings(
    max_examples=settings.default.max_examples // 4,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    weights=st.lists(st.sampled_from([0, 1, 1, 1, 2, 3, 70]), min_size=30, max_size=MANY),
    full=st.sets(st.integers(0, MANY - 1), max_size=MANY),
    ends=st.lists(st.booleans(), min_size=1, max_size=25),
)
def test_it_draws_as_the_model_says(
    world: w.World, scheduler: str, weights: list[int], full: set[int], ends: list[bool]
) -> None:
    """After each new connection, an old one may end: the oldest that runs. Some members have room for one only."""
    world.empty()
    members = tuple(
        member(number, weight, **({"upper": 1, "lower": 1} if number in full else {}))
        for number, weight in enumerate(weights)
    )
    plan = pool(scheduler, weights, members=members)
    world.apply(plan)
    model = Service(plan)
    model.update(plan)
    running = []
    for sport, one_ends in enumerate(ends, start=1):
        frame = w.tcp("S", sport=sport)
        expected = model.scheduled(dissect(bytes(frame)))

        outcome = world.send(frame)

        if expected is None:
            assert outcome.reason == "reject_empty"
            continue
        assert f"b{owner(outcome)}" == expected.plan.name
        expected.active += 1
        expected.served += 1
        expected.took_one()
        running.append((sport, expected))
        if one_ends:
            ended, by = running.pop(0)
            world.send(w.tcp("R", sport=ended))
            by.active -= 1
            by.inactive += 1


@pytest.mark.parametrize("scheduler", ["rr", "wrr", "lc", "wlc", "sed", "nq"])
def test_loads_are_even(world: w.World, scheduler: str) -> None:
    world.apply(pool(scheduler, [1] * MANY))

    counts = Counter(opened(world, 20 * MANY))

    assert len(counts) == MANY
    assert max(counts.values()) - min(counts.values()) <= 3


def test_loads_are_as_the_weights_are(world: w.World) -> None:
    """Three of ninety have 150 of 237 parts."""
    heavy = {7: 50, 30: 50, 80: 50}
    world.apply(pool("wlc", [heavy.get(number, 1) for number in range(MANY)]))

    counts = Counter(opened(world, 10 * 237))

    assert all(430 <= counts[number] <= 520 for number in heavy)
    assert all(8 <= counts[number] <= 14 for number in range(MANY) if number not in heavy)


def test_datagrams_of_one_flow_go_to_all(world: w.World) -> None:
    """Without records each is scheduled by itself."""
    world.apply(pool("rr", [1] * MANY, one_packet=True))
    seen: set[int] = set()

    for _ in range(40 * MANY):
        seen.add(owner(world.send(w.udp())))

    assert len(seen) > MANY // 2


def test_the_highest_weight_has_all_and_the_next_when_it_is_gone(world: w.World) -> None:
    weights = [1 + (7 * number) % MANY for number in range(MANY)]
    best = sorted(range(MANY), key=lambda number: -weights[number])
    world.apply(pool("fo", weights))
    assert set(opened(world, 5)) == {best[0]}

    world.apply(pool("fo", [0 if number in best[:40] else weight for number, weight in enumerate(weights)]))

    assert set(opened(world, 5, first=100)) == {best[40]}


@pytest.mark.parametrize("scheduler", ["wlc", "rr", "fo", "ovf"])
def test_the_only_one_with_room_is_found(world: w.World, scheduler: str) -> None:
    """By thresholds: the packet path alone knows who has room."""
    members = tuple(member(n, upper=1, lower=1) for n in range(FEW_OF_MANY))
    world.apply(w.service(scheduler=Scheduler(scheduler), members=members))

    got = opened(world, FEW_OF_MANY)

    assert sorted(got) == list(range(FEW_OF_MANY))
    assert world.send(w.tcp("S", sport=7)).reason == "reject_empty"


def test_those_that_rest_come_back(world: w.World) -> None:
    world.apply(pool("wlc", [0] * (MANY - 1) + [1]))
    assert set(opened(world, 10)) == {MANY - 1}

    world.apply(pool("wlc", [1] * MANY))

    assert len(set(opened(world, MANY, first=100))) > MANY // 2


@pytest.mark.parametrize("scheduler", ["wlc", "rr", "nq", "mh"])
def test_a_service_has_four_thousand_backends(wide_world: w.World, scheduler: str) -> None:
    wide_world.empty()
    wide_world.apply(pool(scheduler, [1] * MOST, ring_slots=4093))

    got = Counter(opened(wide_world, 2 * MOST))

    assert sum(got.values()) == 2 * MOST
    if scheduler != "mh":
        assert max(got.values()) <= 4
        assert len(got) > 0.95 * MOST


@pytest.mark.parametrize("last", [0, 600, MOST - 1])
def test_one_of_four_thousand_is_up_at_the_vip(wide_world: w.World, last: int) -> None:
    """Those that are out are no less drawn: all must be looked at, in several runs."""
    wide_world.empty()
    out = frozenset({ip_address(w.VIP)})
    members = tuple(member(n, out=frozenset() if n == last else out) for n in range(MOST))
    wide_world.apply(w.service(members=members))

    assert set(opened(wide_world, 20)) == {last}
    wide_world.apply(pool("wlc", [1] * MOST))
    assert len(set(opened(wide_world, 20, first=100))) > 10


def test_a_flow_whose_owner_is_out_finds_another_among_many(wide_world: w.World) -> None:
    wide_world.empty()
    out = frozenset({ip_address(w.VIP)})
    members = tuple(member(n, out=out if n % 2 else frozenset()) for n in range(MOST))
    wide_world.apply(w.service(scheduler=Scheduler.MH, ring_slots=4093, members=members))

    got = opened(wide_world, 200)

    assert all(number % 2 == 0 for number in got)
    assert len(set(got)) > 150


def test_more_backends_than_there_is_room_for_are_refused(world: w.World) -> None:
    room = world.tables.loaded.sizes.members
    with pytest.raises(CapacityError, match=f"257 backends; there is room for {room}: raise sizes.members"):
        world.apply(pool("wlc", [1] * (room + 1)))
