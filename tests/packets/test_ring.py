# SPDX-License-Identifier: Apache-2.0
"""Affinity without a table: what a ring promises running flows while its backends come and go."""

from __future__ import annotations

import world as w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rings import FLOWS, NAMES, asked, flags, opened, records, ring, settle

from xdpdirector import schedule


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

    assert world.plane.is_settled("web")
    assert schedule.FLUX not in flags(world)
    assert asked(world, FLOWS) | asked(world, late) == owners | late


def test_flux_does_not_end_before_its_time(world: w.World) -> None:
    world.apply(ring(NAMES[:2]), now=0)
    opened(world)
    world.apply(ring(NAMES), now=0)

    settle(world, now=ring(NAMES).flux_seconds - 1)

    assert not world.plane.is_settled("web")
    assert schedule.FLUX in flags(world)


def test_marks_go_when_their_flows_have_gone(world: w.World) -> None:
    world.apply(ring(NAMES[:2]), now=0)
    opened(world)
    world.apply(ring(NAMES), now=0)
    asked(world, FLOWS)
    settle(world, now=2000)
    assert schedule.EXCEPTIONS in flags(world)

    world.forget_connections()
    settle(world, now=2001)

    assert flags(world) == {0}


def test_a_draining_backend_gets_no_new_flow_and_keeps_its_own(world: w.World) -> None:
    world.apply(ring(NAMES))
    owners = opened(world)

    world.apply(ring(NAMES, draining={"web1"}))

    assert asked(world, FLOWS) == owners
    assert "web1" not in opened(world, range(1000, 1300)).values()
    assert world.plane.load(("web", "web1"))[0] == list(owners.values()).count("web1")


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


def test_changing_the_scheduler_moves_no_flow(world: w.World) -> None:
    world.apply(ring(NAMES), now=0)
    owners = opened(world)

    world.apply(w.service(members=ring(NAMES).members), now=0)
    assert asked(world, FLOWS) == owners
    late = opened(world, range(1000, 1100))
    asked(world, late)
    settle(world, now=2000)
    assert int(world.tables.services[0]["ring_slots"]) == 0
    assert asked(world, FLOWS) | asked(world, late) == owners | late

    world.apply(ring(NAMES), now=3000)
    assert asked(world, FLOWS) | asked(world, late) == owners | late


STEPS = st.lists(
    st.tuples(
        st.sets(st.sampled_from(NAMES), min_size=1),
        st.sets(st.sampled_from(NAMES)),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
