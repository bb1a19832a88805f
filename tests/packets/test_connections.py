# SPDX-License-Identifier: Apache-2.0
"""Connections that are recorded: affinity, least busy, drain, down, removed, maintenance, redirect."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

import tests.support.world as w
from xdpdirector.dataplane.service_plan import ServicePlan, State

TWO = (w.backend("web1"), w.backend("web2"))


def drained(name: str) -> object:
    return w.backend(name, accepts=False)


def down(name: str) -> object:
    return w.backend(name, accepts=False, state=State.DOWN)


def test_a_connection_keeps_its_backend_while_others_come(world: w.World) -> None:
    world.apply(w.service(members=TWO))
    first = w.owner(world.send(w.tcp("S", sport=1)))
    for sport in range(2, 20):
        world.send(w.tcp("S", sport=sport))

    outcomes = [world.send(w.tcp(flags, sport=1)) for flags in ("A", "PA", "A", "FA", "A")]

    assert [w.owner(outcome) for outcome in outcomes] == [first] * 5
    assert {outcome.reason for outcome in outcomes} == {"forward_connection"}


def test_a_packet_that_another_processor_overtook_is_not_late(world: w.World) -> None:
    """Its clock was read before the other packet's: the record was seen in its future."""
    world.apply(w.service(members=TWO))
    first = w.owner(world.send(w.tcp("S", sport=1)))
    world.send(w.tcp("A", sport=1))
    world.shift_connections(by=1.0)

    outcome = world.send(w.tcp("A", sport=1))

    assert (w.owner(outcome), outcome.reason) == (first, "forward_connection")


def test_a_connection_that_was_idle_for_too_long_is_unknown(world: w.World) -> None:
    world.apply(w.service(members=TWO))
    world.send(w.tcp("S", sport=1))
    world.send(w.tcp("A", sport=1))
    world.shift_connections(by=-903.0)

    assert world.send(w.tcp("A", sport=1)).reason == "reject_unknown"


def test_a_syn_sent_again_goes_to_the_same_backend(world: w.World) -> None:
    world.apply(w.service(members=TWO))
    first = w.owner(world.send(w.tcp("S", sport=1)))

    again = world.send(w.tcp("S", sport=1))

    assert (w.owner(again), again.reason) == (first, "forward_connection")


@pytest.mark.parametrize("frame", [w.tcp, w.tcp6], ids=["IPv4", "IPv6"])
def test_new_connections_go_to_the_least_busy_by_weight(world: w.World, frame: object) -> None:
    world.apply(w.service(members=(w.backend("web1", weight=1), w.backend("web2", weight=3))))

    owners = [w.owner(world.send(frame("S", sport=sport))) for sport in range(1, 41)]  # type: ignore[operator]

    assert (owners.count("web1"), owners.count("web2")) == (10, 30)


def test_ended_connections_make_a_backend_less_busy(world: w.World) -> None:
    world.apply(w.service(members=TWO))
    owners = {sport: w.owner(world.send(w.tcp("S", sport=sport))) for sport in range(1, 5)}
    for sport, name in owners.items():
        if name == "web2":
            world.send(w.tcp("FA", sport=sport))

    assert w.owner(world.send(w.tcp("S", sport=9))) == "web2"
    assert world.plane.counters.load(("web", "web2")) == (1, 2)


def test_a_syn_after_the_end_opens_a_connection(world: w.World) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    world.send(w.tcp("FA"))

    outcome = world.send(w.tcp("S"))

    assert outcome.reason == "forward_new"
    assert world.plane.counters.load(("web", "web1")) == (1, 0)


@pytest.mark.parametrize(("flags", "load"), [("FA", (0, 1)), ("R", (0, 1)), ("PA", (1, 0))])
def test_the_end_of_a_connection_is_counted(world: w.World, flags: str, load: tuple[int, int]) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    world.send(w.tcp("A"))

    world.send(w.tcp(flags))

    assert world.plane.counters.load(("web", "web1")) == load


@pytest.mark.parametrize("on_down", ["reject", "schedule"])
def test_one_packet_assures_a_connection_and_finds_that_its_backend_is_lost(
    world: w.World, on_down: str
) -> None:
    """It must find the record that it has just changed, to forget it: a second one would stand beside it."""
    world.apply(w.service(on_down=on_down))
    world.send(w.tcp("S"))
    world.send(w.tcp("A"))
    world.shift_connections(by=-3.0)
    world.apply(w.service(members=(down("web1"), w.backend("web2")), on_down=on_down))

    first, second = (world.send(w.tcp("A")).reason for _ in range(2))

    expected = {
        "reject": ("reject_down", "reject_unknown"),
        "schedule": ("forward_reopened", "forward_connection"),
    }
    assert (first, second) == expected[on_down]
    assert sum(map(len, world.connections())) == (on_down == "schedule")


def test_a_draining_backend_keeps_its_connections_and_gets_no_new_one(world: w.World) -> None:
    world.apply(w.service(members=TWO))
    owners = {sport: w.owner(world.send(w.tcp("S", sport=sport))) for sport in range(1, 11)}
    for sport in owners:
        world.send(w.tcp("A", sport=sport))

    world.apply(w.service(members=(drained("web1"), TWO[1])))

    assert {sport: w.owner(world.send(w.tcp("PA", sport=sport))) for sport in owners} == owners
    assert {w.owner(world.send(w.tcp("S", sport=sport))) for sport in range(20, 40)} == {"web2"}


@pytest.mark.parametrize(
    ("policy", "reason"), [("reject", "reject_down"), ("drop", "drop_down"), ("schedule", "forward_reopened")]
)
@pytest.mark.parametrize("lost", ["down", "maintenance", "removed"])
def test_mid_stream_without_its_backend(world: w.World, lost: str, policy: str, reason: str) -> None:
    world.apply(w.service(on_down=policy))
    world.send(w.tcp("S"))
    world.send(w.tcp("A"))
    members = {
        "down": (down("web1"), w.backend("web2")),
        "maintenance": (w.backend("web1", accepts=False, state=State.MAINTENANCE), w.backend("web2")),
        "removed": (w.backend("web2"),),
    }[lost]

    world.apply(w.service(on_down=policy, members=members))

    assert world.send(w.tcp("PA", seq=5, ack=6)).reason == reason


def test_a_syn_and_a_datagram_of_a_lost_backend_are_scheduled_anew(world: w.World) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    world.send(w.udp())

    world.apply(w.service(members=(down("web1"), w.backend("web2"))))

    assert world.send(w.tcp("S")) == w.Outcome(w.TX, "forward_new", w.to("web2", w.tcp("S")))
    assert world.send(w.udp()) == w.Outcome(w.TX, "forward_new", w.to("web2", w.udp()))
    assert world.plane.counters.load(("web", "web1")) == (0, 0)


def test_a_dropped_connection_goes_on_when_its_backend_comes_back(world: w.World) -> None:
    plan = w.service(on_down="drop")
    world.apply(plan)
    world.send(w.tcp("S"))
    world.send(w.tcp("A"))
    world.apply(w.service(on_down="drop", members=(down("web1"),)))
    assert world.send(w.tcp("PA")).reason == "drop_down"

    world.apply(plan)

    assert world.send(w.tcp("PA")).reason == "forward_connection"


def use_up_indices(world: w.World) -> None:
    """But for the one that was freed last."""
    others = world.tables.entries("backends") - len(world.plane.indices.backends) - 1
    members = tuple(replace(w.backend("web3"), name=f"web{number}") for number in range(others))
    world.apply(w.service(name="others", listeners=(), members=members))


def test_an_index_that_is_used_again_does_not_inherit_connections(world: w.World) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))
    world.send(w.tcp("A"))
    index = world.plane.indices.backends["web", "web1"]
    world.apply(w.service(members=()))
    use_up_indices(world)

    world.apply(w.service(members=(w.backend("web2"),)))

    assert world.plane.indices.backends["web", "web2"] == index
    assert world.send(w.tcp("PA", ack=6)).reason == "reject_down"


def test_an_index_that_is_used_again_is_not_less_busy_for_it(world: w.World) -> None:
    world.apply(w.service())
    for sport in range(1, 6):
        world.send(w.tcp("S", sport=sport))
    world.apply(w.service(members=()))
    use_up_indices(world)
    world.apply(w.service(members=(w.backend("web2"),)))
    world.send(w.tcp("S", sport=9))

    for sport in range(1, 6):
        world.send(w.tcp("FA", sport=sport))

    assert world.plane.counters.load(("web", "web2")) == (1, 0)


def test_a_changed_mac_takes_effect_on_running_connections(world: w.World) -> None:
    world.apply(w.service())
    world.send(w.tcp("S"))

    world.apply(w.service(members=(w.backend("web1", hop=w.hop("web3")),)))

    assert world.send(w.tcp("A")) == w.Outcome(w.TX, "forward_connection", w.to("web3", w.tcp("A")))


def test_a_flood_of_syns_evicts_no_running_connection(world: w.World) -> None:
    world.apply(w.service())
    running = range(1, 1001)
    for sport in running:
        world.send(w.tcp("S", sport=sport))
        world.send(w.tcp("A", sport=sport))
    syn = bytes(w.tcp("S"))
    for number in range(6 * world.tables.entries("connections4")):
        world.run(syn[:26] + (0x0A000000 + number).to_bytes(4, "big") + syn[30:])
    world.recount()

    lost = [sport for sport in running if world.send(w.tcp("A", sport=sport)).reason != "forward_connection"]

    assert lost == []


def test_the_sweep_corrects_counts_and_deletes_what_timed_out(world: w.World) -> None:
    world.apply(w.service())
    for sport in range(1, 11):
        world.send(w.tcp("S", sport=sport))
        world.send(w.tcp("A", sport=sport))
    for rows in world.connections():
        world.records.forget(rows[:4])
    world.send(w.tcp("S", sport=99))

    result = world.sweep()

    assert (result.total, result.deleted) == (7, 0)
    assert world.plane.counters.load(("web", "web1")) == (7, 0)


def test_the_sweep_deletes_the_records_of_a_removed_backend(world: w.World) -> None:
    world.apply(w.service(members=TWO))
    for sport in range(1, 11):
        world.send(w.tcp("S", sport=sport))
        world.send(w.tcp("A", sport=sport))
    world.apply(w.service(members=TWO[1:]))

    result = world.sweep()

    assert (result.total, result.deleted) == (5, 5)


@pytest.fixture
def second_interface() -> Iterator[int]:
    """The index of an interface other than loopback, made for the test."""
    subprocess.run(["ip", "link", "add", "xdptest0", "type", "veth", "peer", "name", "xdptest1"], check=True)
    try:
        shown = subprocess.run(
            ["ip", "-o", "link", "show", "xdptest0"], check=True, capture_output=True, text=True
        )
        yield int(shown.stdout.split(":")[0])
    finally:
        subprocess.run(["ip", "link", "del", "xdptest0"], check=True)


def test_a_backend_on_another_interface_is_reached_by_redirect(world: w.World, second_interface: int) -> None:
    world.apply(w.service(members=(w.backend("web1", hop=w.hop("web1", second_interface)),)))

    outcome = world.send(w.tcp("S"))

    assert outcome == w.Outcome(w.REDIRECT, "forward_new", w.to("web1", w.tcp("S")))


def test_traffic_is_counted_by_backend(world: w.World) -> None:
    world.apply(w.service())

    for frame in (w.tcp("S"), w.tcp("A"), w.tcp("PA") / b"12345", w.udp(data=b"")):
        world.send(frame)

    [traffic] = world.plane.counters.traffic([("web", "web1")]).values()
    assert (traffic.packets, traffic.bytes, traffic.connections) == (4, 40 + 40 + 45 + 28, 2)


def test_an_applied_plan_changes_nothing_when_it_is_applied_again(world: w.World) -> None:
    plan: ServicePlan = w.service(members=TWO)
    assert world.plane.apply(plan, 0.0) > 0

    assert world.plane.apply(plan, 0.0) == 0


def test_drift_is_repaired(world: w.World) -> None:
    world.apply(w.service())
    index = world.plane.indices.backends["web", "web1"]
    world.tables.backends["state"][index] = 0

    assert world.plane.apply(w.service(), 0.0) > 0
    assert world.send(w.tcp("S")).reason == "forward_new"


def test_a_new_daemon_adopts_what_it_finds(world: w.World) -> None:
    from xdpdirector.dataplane.writer import Dataplane

    world.apply(w.service(members=(w.backend("web1"), down("web2"))))

    adopted = Dataplane(world.tables, world.clock)

    assert adopted.backends.adopted() == {("web", "web1"): State.SERVING, ("web", "web2"): State.DOWN}
    assert adopted.apply(w.service(members=(w.backend("web1"), down("web2"))), 0.0) == 0


def test_a_listener_that_is_taken_away_is_taken_away_alone(world: w.World) -> None:
    world.apply(w.service())

    world.apply(w.service(listeners=w.LISTENERS[1:]))

    assert world.send(w.tcp()).reason == "pass_no_listener"
    assert world.send(w.tcp6()).reason == "forward_new"
