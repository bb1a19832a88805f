# SPDX-License-Identifier: Apache-2.0
"""The program that explains decides as the one that forwards, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_network
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest

import tests.support.world as w
from tests.packets.reference.tunnel import with_id
from tests.packets.test_reference import KINDS, Duel, other_interface, plans
from tests.support.world import World
from xdpdirector import libbpf
from xdpdirector.dataplane.explain_run import Explainer
from xdpdirector.dataplane.explain_types import Finding, Question, Slot, frame_of
from xdpdirector.dataplane.service_plan import State
from xdpdirector.loader import compiler
from xdpdirector.model import Persistence, Scheduler
from xdpdirector.model.guard import ServiceLimit
from xdpdirector.model.listener import Listener
from xdpdirector.model.quic import QuicSpec
from xdpdirector.paths import InstancePaths

__all__ = ["other_interface"]

LOOPBACK = "lo"
ACTIONS = {w.PASS: "pass", w.DROP: "drop", w.TX: "tx", w.REDIRECT: "redirect"}
SCRATCH = {
    "explanations",
    "asides",
    "stages",
    "ports",
    "decisions",
}  # what a program writes down while it looks at a packet
SEED = 20
FRAMES = {"conversations": 12000, "oddities": 6000}
CHANGE_EVERY = 250
TWO = (w.backend("web1"), w.backend("web2"))
WATCHED = tuple(replace(each, watched=True) for each in TWO)


@pytest.fixture(scope="session")
def program(loaded_world: World) -> Path:
    loaded = loaded_world.tables.loaded
    return compiler.ensure_explaining(InstancePaths(loaded.pins.parent.name), loaded)


@pytest.fixture
def explainer(world: World, program: Path) -> Iterator[Explainer]:
    with Explainer(program, world.tables, world.plane.indices) as explainer:
        yield explainer


def contents(world: World) -> dict[str, bytes]:
    """All that stands in all maps."""
    return {name: _content(world, name) for name in world.tables.loaded.maps if name not in SCRATCH}


def _content(world: World, name: str) -> bytes:
    said = world.tables.loaded.maps[name]
    with libbpf.opened(world.tables.loaded.pins / name) as fd:
        keys = np.zeros((said["max_entries"] + 1, said["key_size"]), np.uint8)
        values = np.zeros((said["max_entries"] + 1, libbpf.map_info(fd).value_bytes), np.uint8)
        counts = libbpf.lookup_batches(fd, keys.ctypes.data, values.ctypes.data, len(keys))
        return b"".join(keys[:count].tobytes() + values[:count].tobytes() for count in counts)


def question(flags: str = "S", sport: int = 1024, **fields: object) -> Question:
    return Question.model_validate(
        {"client": w.CLIENT, "client_port": sport, "vip": w.VIP, "port": 80, "flags": flags, **fields}
    )


def asked(explainer: Explainer, flags: str = "S", sport: int = 1024, **fields: object) -> Finding:
    frame = frame_of(question(flags, sport, **fields), w.mac(w.ROUTER_MAC), w.mac(w.DIRECTOR_MAC))
    return explainer.ask(frame, LOOPBACK)


# As the real one, frame by frame


@pytest.mark.parametrize("kind", list(FRAMES))
def test_it_says_what_will_happen_and_leaves_no_trace(
    world: World, explainer: Explainer, other_interface: int, kind: str
) -> None:
    """The reference model would notice any record, count or payment that an explanation left behind."""
    # given
    random = Random(f"explain {SEED} {kind}")
    duel = Duel(world, plans(other_interface))
    duel.begin()
    for number, frame in enumerate(islice(KINDS[kind][0](random), FRAMES[kind])):
        if number % CHANGE_EVERY == CHANGE_EVERY - 1:
            duel.change(random)

        # when
        said = explainer.ask(frame, LOOPBACK)
        fate = duel.send(frame)

        # then
        if not fate.may_be_silent:
            if fate.any_id_at:  # another one each time
                fate = fate._replace(frame=with_id(fate.frame, fate.any_id_at, said.frame))
            assert (said.action, said.reason, said.frame) == (ACTIONS[fate.verdict], fate.reason, fate.frame)
    assert duel.differences() == {}


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([], id="a new connection"),
        pytest.param([w.tcp("S")], id="a pending one"),
        pytest.param([w.tcp("S"), w.tcp("A")], id="a running one"),
        pytest.param([w.tcp("S"), w.tcp("A"), w.tcp("FA")], id="one that ends"),
    ],
)
@pytest.mark.parametrize("flags", ["S", "A", "FA", "R"])
@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(w.service(members=TWO), id="wlc"),
        pytest.param(w.service(members=TWO, scheduler=Scheduler.MH), id="mh"),
        pytest.param(w.service(members=WATCHED, passive=True), id="watched"),
        pytest.param(w.service(members=WATCHED, passive=True, scheduler=Scheduler.MH), id="watched mh"),
        pytest.param(
            w.service(members=TWO, scheduler=Scheduler.MH, persistence=Persistence()), id="sticky mh"
        ),
        pytest.param(
            w.service(
                members=(w.backend("web1", upper=1, lower=1), *TWO[1:]),
                persistence=Persistence(),
                limit=ServiceLimit(rate="1/h", burst=2, per_source={"rate": "1/h", "burst": 2}),
            ),
            id="thresholds, persistence and limits",
        ),
    ],
)
def test_no_map_changes(
    world: World, explainer: Explainer, plan: w.ServicePlan, frames: list[w.Packet], flags: str
) -> None:
    # given
    world.apply(plan)
    for frame in frames:
        world.send(frame)
    before = contents(world)

    # when
    for sport in (1024, 1025):
        asked(explainer, flags, sport)

    # then
    after = contents(world)
    assert [name for name in before if before[name] != after[name]] == []


# What it found on its way


def test_the_scheduler_gives_a_new_connection(world: World, explainer: Explainer) -> None:
    # given
    world.apply(w.service(members=TWO))
    world.send(w.tcp("S", sport=1))

    # when
    said = asked(explainer, sport=2)

    # then
    assert (said.action, said.reason, said.service, said.backend) == ("tx", "forward_new", "web", "web2")
    assert said.facts == {"service", "scheduled"}
    assert said.frame[:6] == w.mac(w.WEB2_MAC)
    assert (said.interface, said.way_out, said.slot) == (LOOPBACK, LOOPBACK, None)


def test_a_record_holds_a_connection(world: World, explainer: Explainer) -> None:
    # given
    world.apply(w.service(members=TWO))
    world.send(w.tcp("S"))

    # when
    said = asked(explainer, "A")

    # then
    assert (said.reason, said.backend) == ("forward_connection", "web1")
    assert said.facts == {"service", "record"}


def test_a_connection_that_has_ended_is_opened_again_where_it_was(world: World, explainer: Explainer) -> None:
    # given
    world.apply(w.service(members=TWO))
    for flags in ("S", "A", "FA"):
        world.send(w.tcp(flags))

    # when
    said = asked(explainer, "S")

    # then
    assert (said.reason, said.backend) == ("forward_new", "web1")
    assert said.facts == {"service", "record"}


def test_a_lost_backend_is_named(world: World, explainer: Explainer) -> None:
    # given
    world.apply(w.service(members=TWO))
    world.send(w.tcp("S"))
    world.apply(w.service(members=(w.backend("web1", state=State.DOWN, accepts=False), *TWO[1:])))

    # when
    said = asked(explainer, "A")

    # then
    assert (said.action, said.reason, said.backend) == ("tx", "reject_down", "web1")
    assert said.facts == {"service", "record"}
    assert said.frame[:6] == w.mac(w.ROUTER_MAC)


def test_a_client_keeps_its_backend(world: World, explainer: Explainer) -> None:
    # given
    world.apply(w.service(members=TWO, persistence=Persistence()))
    world.send(w.tcp("S", sport=1))

    # when
    said = asked(explainer, sport=2)

    # then
    assert (said.reason, said.backend) == ("forward_new", "web1")
    assert said.facts == {"service", "client"}


def test_nobody_but_the_fallback(world: World, explainer: Explainer) -> None:
    # given
    members = (w.backend("web1", accepts=False, state=State.DOWN), w.backend("web2", accepts=False))
    world.apply(w.service(members=members, fallback="web2"))

    # when
    said = asked(explainer)

    # then
    assert (said.reason, said.backend) == ("forward_new", "web2")
    assert said.facts == {"service", "fallback"}


@pytest.mark.parametrize("scheduler", [Scheduler.WLC, Scheduler.MH])
def test_a_connection_id_names_a_backend(world: World, explainer: Explainer, scheduler: Scheduler) -> None:
    # given
    members = tuple(w.backend(name, quic_id=raw) for name, raw in (("web1", b"\1\1"), ("web2", b"\2\2")))
    world.apply(w.service(members=members, scheduler=scheduler, quic=QuicSpec(cids="quic-lb", length=2)))

    # when
    said = [
        asked(explainer, "", protocol="udp", port=53, payload=f"4000{raw * 2}{'00' * 20}")
        for raw in ("01", "02")
    ]

    # then
    found = {(each.reason, each.backend, "cid" in each.facts) for each in said}
    if scheduler is Scheduler.MH:
        assert {each.backend for each in said} == {"web1", "web2"}
        assert {each.reason for each in said} == {"forward_cid", "forward_ring"}
    else:
        assert found == {("forward_cid", "web1", True), ("forward_cid", "web2", True)}
    assert all(("cid" in each.facts) == (each.reason == "forward_cid") for each in said)


def test_a_slot_at_rest_and_in_flux(world: World, explainer: Explainer) -> None:
    # given
    world.apply(w.service(members=TWO[:1], scheduler=Scheduler.MH))
    world.send(w.tcp("S"))
    at_rest = asked(explainer, "A")
    world.apply(w.service(members=TWO[1:], scheduler=Scheduler.MH))

    # when
    in_flux = asked(explainer, "A")

    # then
    assert at_rest.slot is not None
    number = at_rest.slot.number
    assert 0 <= number < w.SERVICE.ring_slots
    assert (at_rest.reason, at_rest.backend) == ("forward_ring", "web1")
    assert replace(at_rest.slot, before=None) == Slot(number, "web1", None, False)
    assert in_flux.slot is not None
    assert in_flux.slot.number == number
    assert in_flux.slot.in_flux
    assert in_flux.slot.backend == "web2"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"vip": w.STRANGER}, "pass_not_vip", id="no VIP"),
        pytest.param({"port": 81}, "pass_no_listener", id="no listener"),
        pytest.param({"protocol": "udp", "port": 53}, "forward_new", id="a datagram"),
        pytest.param({"client": w.CLIENT6, "vip": w.VIP6}, "forward_new", id="IPv6"),
        pytest.param(
            {"client": w.CLIENT6, "vip": w.VIP6, "protocol": "udp", "port": 53}, "forward_new", id="v6 UDP"
        ),
        pytest.param({"protocol": "gre", "port": 80}, "pass_no_listener", id="no port"),
        pytest.param({"flags": "A"}, "reject_unknown", id="mid-stream"),
        pytest.param({"flags": "R"}, "drop_reset", id="a reset"),
        pytest.param({"protocol": "sctp", "port": 3868}, "forward_new", id="an INIT"),
        pytest.param({"protocol": "sctp", "port": 3868, "flags": "A"}, "reject_unknown", id="an SCTP chunk"),
        pytest.param({"protocol": "sctp", "port": 3868, "flags": "F"}, "reject_unknown", id="a SHUTDOWN"),
        pytest.param({"protocol": "sctp", "port": 3868, "flags": "R"}, "drop_reset", id="an ABORT"),
        pytest.param({"protocol": "sctp", "port": 3868, "flags": "SA"}, "reject_unknown", id="an INIT ACK"),
        pytest.param({"protocol": "sctp", "port": 3869}, "pass_no_listener", id="another SCTP port"),
    ],
)
def test_questions_of_all_kinds(
    world: World, explainer: Explainer, fields: dict[str, object], reason: str
) -> None:
    # given
    listeners = (*w.LISTENERS, Listener.parse(f"{w.VIP}:3868/sctp"))
    world.apply(w.service(members=TWO, listeners=listeners))

    # when
    said = asked(explainer, **fields)  # type: ignore[arg-type]

    # then
    assert said.reason == reason


def test_a_backend_behind_another_interface(world: World, explainer: Explainer, other_interface: int) -> None:
    # given
    world.apply(w.service(members=(w.backend("web1", hop=w.hop("web1", other_interface)),)))

    # when
    said = asked(explainer)

    # then
    assert (said.action, said.backend) == ("redirect", "web1")
    assert said.way_out not in (None, LOOPBACK)


def test_a_denied_client(world: World, explainer: Explainer) -> None:
    # given
    world.apply(w.service(members=TWO))
    world.plane.deny([ip_network(w.CLIENT)])

    # when
    said = asked(explainer)
    world.plane.deny([])

    # then
    assert (said.action, said.reason, said.service) == ("drop", "drop_denied", "web")


@pytest.mark.parametrize(("scheduler", "is_drawn"), [("wlc", True), ("rr", True), ("fo", False)])
def test_that_some_of_many_were_drawn_is_noted(
    world: World, explainer: Explainer, scheduler: str, is_drawn: bool
) -> None:
    many = tuple(replace(w.backend("web1"), name=f"b{number}") for number in range(40))
    world.apply(w.service(scheduler=Scheduler(scheduler), members=many))

    assert ("drawn" in asked(explainer).facts) == is_drawn
    world.apply(w.service(scheduler=Scheduler(scheduler), members=many[:32]))
    assert "drawn" not in asked(explainer).facts
