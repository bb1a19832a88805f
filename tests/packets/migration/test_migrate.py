# SPDX-License-Identifier: Apache-2.0
"""What an upgrade to other maps carries over: backends of flows, places of clients, counts."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest

import tests.support.world as w
from tests.support.ring_slots import NAMES, ring
from tests.support.sizes import LARGER, SMALL
from tests.support.upgrades import FLOWS, TWO, changed, opened, owners, reset, running, upgraded
from xdpdirector import libbpf
from xdpdirector.daemon import startup
from xdpdirector.dataplane.listener_cache import ListenerCache
from xdpdirector.dataplane.maps import Tables
from xdpdirector.dataplane.migration import map_kinds, migrate
from xdpdirector.loader import (
    layout,
    source,
)
from xdpdirector.model import Configuration, Listener, Persistence
from xdpdirector.model.quic import QuicSpec
from xdpdirector.net import own_macs
from xdpdirector.paths import InstancePaths

WEB1 = ("web", "web1")


def wider(directory: Path) -> Path:
    """Another field in front of what services and backends were."""
    return changed(
        directory,
        ("struct service {\n", "struct service {\n\tu64 novelty;\n"),
        ("struct backend {\n", "struct backend {\n\tu32 novelty;\n"),
    )


@pytest.mark.parametrize("how", ["other sizes", "other structs"])
def test_flows_keep_their_backends(before: w.World, paths: InstancePaths, tmp_path: Path, how: str) -> None:
    before.apply(w.service(members=TWO))
    had = [opened(before, frame) for frame in (w.tcp, w.tcp6)]

    loaded = upgraded(paths, LARGER) if how == "other sizes" else upgraded(paths, SMALL, wider(tmp_path))
    migrate.carry(paths, loaded)

    with w.World(paths, loaded) as after:
        assert [owners(after, frame) for frame in (w.tcp, w.tcp6)] == had
        after.apply(w.service(members=TWO))
        assert [owners(after, frame) for frame in (w.tcp, w.tcp6)] == had
        assert after.sweep().total == 2 * len(FLOWS)
        assert set(had[0].values()) == {"web1", "web2"}


def test_the_exceptions_of_a_ring_are_carried(before: w.World, paths: InstancePaths) -> None:
    before.apply(ring(NAMES))
    before.apply(ring(NAMES, draining={"web3"}), now=1)
    had = owners(before, w.tcp)

    loaded = upgraded(paths, LARGER)
    migrate.carry(paths, loaded)

    with w.World(paths, loaded) as after:
        assert owners(after, w.tcp) == had


def test_connection_ids_name_the_same_backends(before: w.World, paths: InstancePaths) -> None:
    members = tuple(w.backend(name, quic_id=raw) for name, raw in (("web1", b"\1\0"), ("web2", b"\2\0")))
    plan = w.service(members=members, quic=QuicSpec(cids="quic-lb", length=2))
    before.apply(plan)
    before.send(w.udp(data=b"\x40\0\2\0" + bytes(20)))

    loaded = upgraded(paths, LARGER)
    migrate.carry(paths, loaded)

    with w.World(paths, loaded) as after:
        outcome = after.send(w.udp(sport=2000, data=b"\x40\0\2\0" + bytes(20)))
        assert (outcome.reason, w.owner(outcome)) == ("forward_cid", "web2")
        assert after.plane.counters.cids(["web"])["web"].named == 2
        assert after.plane.apply(plan, 0.0) == 0


def test_a_client_keeps_its_backend(before: w.World, paths: InstancePaths) -> None:
    plan = w.service(members=TWO, persistence=Persistence())
    before.apply(plan)
    first = w.owner(before.send(w.tcp("S", sport=1)))

    loaded = upgraded(paths, LARGER)
    migrate.carry(paths, loaded)

    with w.World(paths, loaded) as after:
        assert {w.owner(after.send(w.tcp("S", sport=sport))) for sport in range(2, 20)} == {first}


def test_counters_go_on(before: w.World, paths: InstancePaths, tmp_path: Path) -> None:
    before.apply(w.service(members=(w.backend("web1", watched=True),), passive=True))
    for sport in FLOWS:
        before.send(w.tcp("S", sport=sport))
    before.send(w.tcp("A", sport=max(FLOWS)))
    before.send(w.tcp("A", sport=max(FLOWS) + 1))
    before.tables.loads["unanswered"][before.plane.indices.backends[WEB1]] = 7
    passive = before.plane.counters.passive([WEB1])
    counted, traffic = before.plane.counters.verdicts(), before.plane.counters.traffic([WEB1])
    assert before.plane.counters.drops(["web"])["web"] == {"reject_unknown": 1}

    reasons = before.tables.enums["reason"]["REASONS"]
    another = changed(
        tmp_path,
        ("struct service {\n", "struct service {\n\tu64 novelty;\n"),
        ("struct backend {\n", "struct backend {\n\tu32 novelty;\n"),
        (f"\tREASONS = {reasons},", f"\tDROP_NOVELTY = {reasons},\n\tREASONS = {reasons + 1},"),
        ("\tREJECT_DOWN = 14,", "\tREJECT_DOWN = 15,"),
        ("\tREJECT_UNKNOWN = 15,", "\tREJECT_UNKNOWN = 14,"),
    )
    loaded = upgraded(paths, LARGER, another)
    migrate.carry(paths, loaded)

    with w.World(paths, loaded) as after:
        assert after.plane.counters.verdicts() == counted | {"drop_novelty": 0}
        assert after.plane.counters.drops(["web"])["web"] == {"reject_unknown": 1}
        assert after.plane.counters.traffic([WEB1]) == traffic
        assert traffic[WEB1].packets == len(FLOWS) + 1
        assert after.plane.counters.passive([WEB1]) == passive
        assert (passive[WEB1].syns, passive[WEB1].handshakes) == (len(FLOWS), 1)
        assert passive[WEB1].unanswered == 7


def test_counts_of_connections_fit_into_longer_lists(before: w.World, paths: InstancePaths) -> None:
    before.apply(w.service(members=TWO))
    opened(before, w.tcp)
    had = [before.plane.counters.load(("web", name)) for name in ("web1", "web2")]

    loaded = upgraded(paths, LARGER)
    migrate.carry(paths, loaded)

    with w.World(paths, loaded) as after:
        assert [after.plane.counters.load(("web", name)) for name in ("web1", "web2")] == had
        assert sum(active for active, _ in had) == len(FLOWS)


@pytest.mark.parametrize(("first", "then"), [(256, 1024), (1024, 256)], ids=["longer", "shorter"])
def test_members_fit_into_lists_of_another_length(paths: InstancePaths, first: int, then: int) -> None:
    """Each service keeps its own, and who is out for a VIP is out, before any daemon has looked."""
    out = frozenset({ip_address(w.VIP)})
    other = w.service(name="web", members=(w.backend("web1", out=out), w.backend("web2")))
    one = w.service(
        name="dns", listeners=(Listener.parse("192.0.2.11:53/udp"),), members=(w.backend("web3"),)
    )
    loaded = upgraded(paths, SMALL.model_copy(update={"members": first}))
    with w.World(paths, loaded) as before:
        before.apply(one, other)
        assert {w.owner(before.send(w.tcp("S", sport=sport))) for sport in range(1, 5)} == {"web2"}

        loaded = upgraded(paths, SMALL.model_copy(update={"members": then}))
        migrate.carry(paths, loaded)

        with Tables(loaded) as tables, libbpf.opened(loaded.program) as program:
            assert len(tables.members) == len(tables.services) * (then + then // 4)
            frames = [w.tcp("S", sport=sport) for sport in range(11, 20)]
            got = [libbpf.prog_test_run(program, bytes(frame), w.LOOPBACK).frame for frame in frames]
        assert got == [w.to("web2", frame) for frame in frames]
        with w.World(paths, loaded) as after:
            assert after.plane.apply(other, 0.0) == after.plane.apply(one, 0.0) == 0


def test_flows_that_come_meanwhile_follow(before: w.World, paths: InstancePaths) -> None:
    before.apply(w.service(members=TWO))
    opened(before, w.tcp)
    loaded = upgraded(paths, LARGER)
    migrate.carry(paths, loaded)
    before.send(w.tcp("S", sport=1000))
    late = w.owner(before.send(w.tcp("A", sport=1000)))

    with w.World(paths, loaded) as after:
        after.send(w.tcp("FA", sport=1))
        migrate.complete(paths, loaded)

        assert w.owner(after.send(w.tcp("PA", sport=1000))) == late
        states = {
            view["state"]
            for rows in after.connections()
            for view in rows
            if view["client_port"] == w.network16(1)
        }
        assert states == {after.tables.enums["connection_state"]["CONNECTION_FIN"]}


def attach_by(monkeypatch: pytest.MonkeyPatch, attached: Callable[..., list[object]]) -> None:
    """In place of interfaces that would get the program."""
    monkeypatch.setattr(startup.attachment, "attach", attached)
    monkeypatch.setattr(startup.attachment, "attachments", lambda _: [])


def test_the_new_program_knows_what_began_before_it_takes_packets(
    before: w.World, paths: InstancePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    before.apply(w.service(members=TWO))
    loaded, young, resets = upgraded(paths, LARGER), range(1, 51), list[int]()
    migrate.carry(paths, loaded)
    running(before, young)  # as long as a daemon starts

    def attached(*_: object, **__: object) -> list[object]:
        with w.World(paths, loaded) as after:
            resets.append(reset(after, young))
        return []

    attach_by(monkeypatch, attached)
    startup.attach(paths, Configuration(interfaces=("lo",)))

    assert resets == [0]


def test_without_a_daemon_what_begins_while_it_is_attached_is_not_reset(
    before: w.World, paths: InstancePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first packet of these still went through the program before, the next one through the new one."""
    before.apply(w.service(members=TWO))
    loaded, young, meanwhile = upgraded(paths, LARGER), range(1, 51), set[str]()
    migrate.carry(paths, loaded)
    with w.World(paths, loaded) as after:

        def attached(*_: object, done: Callable[[], None], **__: object) -> list[object]:
            running(before, young)
            meanwhile.update(after.send(w.tcp("PA", sport=sport, ack=1)).reason for sport in young)
            done()
            return []

        attach_by(monkeypatch, attached)
        startup.attach_without_daemon(paths, loaded, Configuration(interfaces=("lo",)))

        assert meanwhile == {"drop_unknown"}
        assert reset(after, young) == 0
        assert after.send(w.tcp("PA", sport=60)).reason == "reject_unknown"


def test_it_forwards_before_any_daemon_has_looked(before: w.World, paths: InstancePaths) -> None:
    before.apply(w.service())
    loaded = upgraded(paths, LARGER)

    migrate.carry(paths, loaded)

    with Tables(loaded) as after, libbpf.opened(loaded.program) as program:
        assert own_macs.read(after.stations) == [w.mac(w.DIRECTOR_MAC)]
        assert ListenerCache(after).fill(after.listeners()) == 0
        for frame in (w.tcp(), w.tcp6(), w.udp(), w.udp6()):
            assert libbpf.prog_test_run(program, bytes(frame), w.LOOPBACK).verdict == w.TX


def test_doing_it_again_does_no_harm(before: w.World, paths: InstancePaths) -> None:
    before.apply(w.service(members=TWO))
    had = opened(before, w.tcp)
    loaded = upgraded(paths, LARGER)

    for _ in range(2):
        migrate.carry(paths, loaded)

    with w.World(paths, loaded) as after:
        assert owners(after, w.tcp) == had
        assert after.sweep().total == len(FLOWS)


def test_maps_of_the_same_layout_are_not_carried(
    before: w.World, paths: InstancePaths, tmp_path: Path
) -> None:
    text = source.program().read_text()
    program = changed(tmp_path)
    program.write_text(f"#define NEXT_RELEASE\n{text}")

    loaded = upgraded(paths, SMALL, program)

    assert migrate.predecessor(paths, loaded) is None
    assert layout.set_aside(paths) == []


def test_each_map_has_its_fate(before: w.World) -> None:
    known = [
        map_kinds.CONNECTIONS,
        map_kinds.BY_INDEX,
        map_kinds.BY_KEY,
        map_kinds.COUNTERS,
        map_kinds.INTERFACES,
        map_kinds.DERIVED,
        map_kinds.SCRATCH,
    ]

    assert set().union(*known) == before.tables.loaded.maps.keys()
    assert sum(map(len, known)) == len(before.tables.loaded.maps)
