# SPDX-License-Identifier: Apache-2.0
"""Affinity without a table: what a ring promises running flows while its backends come and go."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tests.support.world as w
from tests.support.ring_slots import (
    FLOWS,
    NAMES,
    SLOTS,
    asked,
    flags,
    opened,
    planned,
    records,
    ring,
    settle,
)
from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.errors import CapacityError
from xdpdirector.model import Scheduler


def test_at_rest_nothing_is_recorded(world: w.World) -> None:
    world.apply(ring(NAMES))

    owners = opened(world)

    assert set(owners.values()) == set(NAMES)
    assert asked(world, FLOWS) == owners
    assert records(world) == 0


def test_flows_stay_when_a_backend_is_added(world: w.World) -> None:
    world.apply(ring(NAMES[:2]))
    owners = opened(world)

    world.apply(ring(NAMES))

    assert asked(world, FLOWS) == owners
    assert "web3" in opened(world, range(1000, 1200)).values()


def test_flows_stay_when_flux_has_ended(world: w.World) -> None:
    world.apply(ring(NAMES[:2]))
    owners = opened(world)
    world.apply(ring(NAMES), now=0)
    asked(world, FLOWS)
    late = opened(world, range(1000, 1100))
    asked(world, late)

    settle(world, now=ring(NAMES).flux_seconds + 1)

    assert world.plane.rings.is_settled("web")
    assert service_plan.FLUX not in flags(world)
    assert asked(world, FLOWS) | asked(world, late) == owners | late


def test_flux_does_not_end_before_its_time(world: w.World) -> None:
    world.apply(ring(NAMES[:2]), now=0)
    opened(world)
    world.apply(ring(NAMES), now=0)

    settle(world, now=ring(NAMES).flux_seconds - 1)

    assert not world.plane.rings.is_settled("web")
    assert service_plan.FLUX in flags(world)


def test_marks_go_when_their_flows_have_gone(world: w.World) -> None:
    world.apply(ring(NAMES[:2]), now=0)
    opened(world)
    world.apply(ring(NAMES), now=0)
    asked(world, FLOWS)
    settle(world, now=2000)
    assert service_plan.EXCEPTIONS in flags(world)

    world.forget_connections()
    settle(world, now=2001)

    assert flags(world) == {0}


def test_a_draining_backend_gets_no_new_flow_and_keeps_its_own(world: w.World) -> None:
    world.apply(ring(NAMES))
    owners = opened(world)

    world.apply(ring(NAMES, draining={"web1"}))

    assert asked(world, FLOWS) == owners
    assert "web1" not in opened(world, range(1000, 1300)).values()
    assert world.plane.counters.load(("web", "web1"))[0] == list(owners.values()).count("web1")


def test_slots_come_back_after_a_drain(world: w.World) -> None:
    world.apply(ring(NAMES))
    owners = opened(world)
    world.apply(ring(NAMES, draining={"web1"}))

    world.apply(ring(NAMES))

    world.forget_connections()
    assert opened(world) == owners


def test_only_the_flows_of_a_backend_that_went_down_are_reset(world: w.World) -> None:
    world.apply(ring(NAMES))
    owners = opened(world)

    world.apply(ring(NAMES, down={"web2"}))

    outcomes = {sport: world.send(w.tcp("PA", sport=sport, ack=1)) for sport in FLOWS}
    assert {s for s, outcome in outcomes.items() if outcome.reason == "reject_down"} == {
        s for s, name in owners.items() if name == "web2"
    }
    assert "web2" not in opened(world, range(1000, 1300)).values()


def test_datagrams_stay_while_their_backend_serves(world: w.World) -> None:
    world.apply(ring(NAMES[:2]))
    owners = {sport: w.owner(world.send(w.udp(sport=sport))) for sport in FLOWS}

    world.apply(ring(NAMES))

    assert {sport: w.owner(world.send(w.udp(sport=sport))) for sport in FLOWS} == owners


FEW = range(1, 101)
MH, SH = {"scheduler": "mh"}, {"scheduler": "sh"}
WLC = {"scheduler": "wlc"}
RING_CHANGES = [
    pytest.param([MH, WLC], id="mh to wlc"),
    pytest.param([MH | {"hash": "address"}, WLC], id="mh by address to wlc"),
    pytest.param([SH, WLC], id="sh to wlc"),
    pytest.param([WLC, MH], id="wlc to mh"),
    pytest.param([WLC, SH], id="wlc to sh"),
    pytest.param([MH, WLC, MH], id="mh to wlc and back"),
    pytest.param([MH, SH], id="mh to sh"),
    pytest.param([SH, MH], id="sh to mh"),
    pytest.param([MH, WLC, SH], id="mh to wlc to sh"),
    pytest.param([MH, SH, MH], id="mh to sh and back"),
    pytest.param([MH, MH | {"hash": "address"}], id="another hash"),
    pytest.param([MH, MH | {"ring_slots": 4093}], id="more slots"),
    pytest.param([MH, MH | {"ring_slots": 251}], id="fewer slots"),
    pytest.param([MH, WLC, MH | {"ring_slots": 251}], id="mh to wlc to another size"),
    pytest.param([MH, SH | {"ring_slots": 4093}, SH | {"ring_slots": 251}], id="another hash and two sizes"),
    pytest.param([SH | {"persistence": {}}, MH], id="persistent sh to mh"),
    pytest.param([MH, SH | {"persistence": {}}], id="mh to persistent sh"),
    pytest.param([MH | {"persistence": {}}, WLC | {"persistence": {}}], id="persistent mh to persistent wlc"),
]


@pytest.mark.parametrize("settles", [True, False], ids=["with time in between", "at once"])
@pytest.mark.parametrize("changes", RING_CHANGES)
def test_no_flow_moves_when_the_ring_changes(
    world: w.World, changes: list[dict[str, object]], settles: bool
) -> None:
    """Also those that open on the way, and whatever a daemon that starts anew remembers of it."""
    wanted = [planned(**fields) for fields in changes]
    now, following = 0.0, 1000
    owners: dict[int, str] = {}
    for number, plan in enumerate(wanted):
        world.apply(plan, now=now)
        if number:
            world.plane = Dataplane(world.tables, world.clock)
            world.apply(plan, now=now)

        assert asked(world, owners) == owners

        fresh = opened(world, FEW if not number else range(following, following + 20))
        owners |= asked(world, fresh)
        assert {sport: owners[sport] for sport in fresh} == fresh
        following += 20
        if settles:
            for _ in range(2):
                now += 5000
                settle(world, now)
                world.apply(plan, now=now)
                assert asked(world, owners) == owners
        now += 1


@pytest.mark.parametrize(
    ("first", "then", "slots"),
    [
        pytest.param(MH, WLC, 0, id="none"),
        pytest.param(MH, SH, SLOTS, id="another hash"),
        pytest.param(MH, MH | {"ring_slots": 4093}, 4093, id="larger"),
        pytest.param(MH, MH | {"ring_slots": 251}, 251, id="smaller"),
        pytest.param(SH, MH | {"persistence": {}}, SLOTS, id="persistent"),
        pytest.param(SH | {"persistence": {}}, WLC | {"persistence": {}}, 0, id="none, persistent"),
    ],
)
def test_a_ring_is_what_is_wanted_once_its_flows_have_records(
    world: w.World, first: dict[str, object], then: dict[str, object], slots: int
) -> None:
    other, wanted = planned(**first), planned(**then)
    world.apply(other, now=0)
    world.apply(wanted, now=100)
    settle(world, now=100)
    settle(world, now=100 + wanted.flux_seconds - 1)
    service = world.tables.services[world.plane.indices.services["web"]]
    early = int(service["ring_slots"])

    settle(world, now=101 + wanted.flux_seconds)

    assert (early, int(service["ring_slots"])) == (other.ring_slots, slots)
    hashes_address = int(service["flags"]) & world.tables.enums["service_flags"]["SERVICE_HASH_ADDRESS"]
    assert bool(hashes_address) == (bool(slots) and not wanted.hashes_port)
    assert world.plane.apply(wanted, now=200 + wanted.flux_seconds) == 0, "this would be taken for drift"


def test_the_ring_to_come_has_its_place_from_the_start(world: w.World) -> None:
    """Another service cannot take it while the flows of the present one get records."""
    largest = 65521
    world.apply(planned(**MH), now=0)
    with pytest.raises(CapacityError, match=r"raise sizes\.ring_slots"):
        world.apply(planned(**MH | {"ring_slots": largest}), now=0)
    world.apply(planned(**MH | {"ring_slots": 32749}), now=0)

    with pytest.raises(CapacityError):
        world.apply(w.service(name="other", scheduler=Scheduler.MH, ring_slots=32749, listeners=()), now=0)

    settle(world, now=5000)
    settle(world, now=10000)
    region = world.plane.rings.region(world.plane.indices.services["web"])
    assert region
    assert region.stop - region.start == 32749


STEPS = st.lists(
    st.tuples(
        st.sets(st.sampled_from(NAMES), min_size=1),
        st.sets(st.sampled_from(NAMES)),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_no_flow_of_a_living_backend_moves_whatever_happens(
    world: w.World, steps: list[tuple[set[str], set[str], bool]]
) -> None:
    """Backends are added, drained and removed in any order; flux may end in between."""
    world.empty()
    world.apply(ring(NAMES), now=0)
    owners = opened(world, range(1, 61))
    following = 1000
    for number, (present, draining, ends) in enumerate(steps, start=1):
        now = number * 10_000.0
        world.apply(ring(sorted(present), draining=draining & present), now=now)
        owners = {sport: name for sport, name in owners.items() if name in present}

        assert asked(world, owners) == owners

        if present - draining:
            fresh = opened(world, range(following, following + 20))
            assert set(fresh.values()) <= present - draining
            asked(world, fresh)
            owners |= fresh
            following += 20
        if ends:
            settle(world, now + 5000)
            assert asked(world, owners) == owners
