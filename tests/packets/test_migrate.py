# SPDX-License-Identifier: Apache-2.0
"""What an upgrade to other maps carries over: backends of flows, places of clients, counts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.support.world as w
from tests.support.ring_slots import NAMES, ring
from tests.support.sizes import LARGER, SMALL
from xdpdirector import libbpf
from xdpdirector.daemon import startup
from xdpdirector.dataplane.listener_cache import ListenerCache
from xdpdirector.dataplane.maps import Tables
from xdpdirector.dataplane.migration import connections, copying, map_kinds, migrate
from xdpdirector.dataplane.migration.fates import Carried
from xdpdirector.errors import ConflictError
from xdpdirector.loader import (
    attachment,
    build,
    compiler,
    layout,
    source,
)
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Configuration, Listener, Persistence, Sizes
from xdpdirector.model.quic import QuicSpec
from xdpdirector.net import own_macs
from xdpdirector.paths import InstancePaths

FLOWS = range(1, 301)
TWO = (w.backend("web1"), w.backend("web2"))
WEB1 = ("web", "web1")


@pytest.fixture
def paths() -> Iterator[InstancePaths]:
    paths = InstancePaths(f"carrying-{os.getpid()}")
    yield paths
    attachment.unload(paths)


@pytest.fixture
def before(paths: InstancePaths) -> Iterator[w.World]:
    """The director that runs."""
    with w.World(paths, compiler.prepare_in_child(paths, SMALL)) as world:
        yield world


def changed(directory: Path, *changes: tuple[str, str]) -> Path:
    """A program of whose headers some say other things; each change is in one of them or more."""
    program = Path(shutil.copytree(source.program().parent, directory / "bpf")) / source.program().name
    texts = {path: path.read_text() for path in program.parent.glob("*.[ch]")}
    for old, new in changes:
        assert any(old in text for text in texts.values())
        texts = {path: text.replace(old, new) for path, text in texts.items()}
    for path, text in texts.items():
        path.write_text(text)
    return program


def wider(directory: Path) -> Path:
    """Another field in front of what services and backends were."""
    return changed(
        directory,
        ("struct service {\n", "struct service {\n\tu64 novelty;\n"),
        ("struct backend {\n", "struct backend {\n\tu32 novelty;\n"),
    )


def upgraded(paths: InstancePaths, sizes: Sizes, program: Path | None = None) -> Loaded:
    return compiler.prepare_in_child(paths, sizes, program)


def owners(world: w.World, frame: object) -> dict[int, str]:
    """Who has the running flows; a frame that is not forwarded to anybody fails here."""
    return {sport: w.owner(world.send(frame("PA", sport=sport))) for sport in FLOWS}  # type: ignore[operator]


def opened(world: w.World, frame: object) -> dict[int, str]:
    for sport in FLOWS:
        world.send(frame("S", sport=sport))  # type: ignore[operator]
    return owners(world, frame)


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


def test_clients_come_from_a_table_of_another_type(paths: InstancePaths, tmp_path: Path) -> None:
    """Earlier programs let the kernel forget who was not seen for longest."""
    earlier = changed(tmp_path, ('PINNED("hash", struct client,', 'PINNED("lru_hash", struct client,'))
    with w.World(paths, compiler.prepare_in_child(paths, SMALL, earlier)) as before:
        before.apply(w.service(members=TWO, persistence=Persistence()))
        first = w.owner(before.send(w.tcp("S", sport=1)))
        before.send(w.tcp("A", sport=1))

        loaded = upgraded(paths, SMALL)
        [fate] = [str(each) for each in migrate.plan(before.tables.loaded, loaded) if each.name == "clients"]
        migrate.carry(paths, loaded)

        assert fate == "clients: 1 kept"
        with w.World(paths, loaded) as after:
            assert sum(len(keys) for keys, _ in after.tables.read("clients")) == 1
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

    monkeypatch.setattr(startup.attachment, "attach", attached)
    monkeypatch.setattr(startup.attachment, "attachments", lambda _: [])
    startup.attach(paths, Configuration(interfaces=("lo",)))

    assert resets == [0]


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


def test_what_would_be_lost_is_said_before(before: w.World, paths: InstancePaths, tmp_path: Path) -> None:
    before.apply(w.service())
    before.send(w.tcp("S"))
    other = changed(
        tmp_path, ("\tu64 state : 4;", "\tu64 condition : 4;"), ("record.state", "record.condition")
    )
    loaded = upgraded(paths, SMALL, other)

    with pytest.raises(ConflictError, match=r"connections4: 1 lost \(its records did not say: condition\)"):
        migrate.carry(paths, loaded)

    assert migrate.carry(paths, loaded, lose=True)


LARGE = SMALL.model_copy(update={"connections": 1 << 14})
MANY = range(1, 2601)


def running(world: w.World, sports: range = MANY) -> None:
    for sport in sports:
        world.send(w.tcp("S", sport=sport))
        world.send(w.tcp("A", sport=sport, ack=1))


def reset(world: w.World, sports: range = MANY) -> int:
    """How many of the running connections are answered with a RST."""
    return sum(world.send(w.tcp("PA", sport=sport, ack=1)).reason == "reject_unknown" for sport in sports)


def lost(plans: list[Carried]) -> int:
    return sum(each.entries for each in plans if each.name == "connections4" and each.fate == "lost")


def test_connections_without_a_place_are_counted_and_refused(paths: InstancePaths) -> None:
    old = upgraded(paths, LARGE)
    with w.World(paths, old) as before:
        before.apply(w.service(members=TWO))
        running(before)
        loaded = upgraded(paths, SMALL)

        said = migrate.plan(old, loaded)
        with pytest.raises(ConflictError, match=f"connections4: {lost(said)} lost .*in a table for 1024"):
            migrate.carry(paths, loaded)
        assert reset(before) == 0

        done = migrate.carry(paths, loaded, lose=True)
        with w.World(paths, loaded) as after:
            completed = migrate.complete(paths, loaded)

            assert reset(after) == lost(said) == lost(done) == completed.unplaced > 0
            assert completed.records == len(MANY)


def test_what_comes_during_the_trial_is_not_taken_for_lost(
    paths: InstancePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with w.World(paths, upgraded(paths, LARGE)) as before:
        before.apply(w.service(members=TWO))
        running(before, range(1, 51))
        hand_in, coming = connections._hand_in, iter(range(51, 101))

        def hand_in_while_another_comes(*arguments: Any) -> None:
            hand_in(*arguments)
            running(before, range(sport := next(coming), sport + 1))

        monkeypatch.setattr(connections, "_hand_in", hand_in_while_another_comes)
        said = migrate.carry(paths, upgraded(paths, LARGER))

        assert {each.name: each.fate for each in said}["connections4"] == "converted"
        assert next(coming) > 52


def test_who_has_nothing_to_lose(paths: InstancePaths) -> None:
    """A flow of one packet, and one that was reset."""
    old = upgraded(paths, LARGE)
    with w.World(paths, old) as before:
        before.apply(w.service())
        for sport in MANY:
            before.send(w.tcp("S", sport=sport))
        ended = range(MANY.stop, MANY.stop + 200)
        running(before, ended)
        for sport in ended:
            before.send(w.tcp("R", sport=sport))
        loaded = upgraded(paths, SMALL)

        migrate.carry(paths, loaded)


def test_a_trial_leaves_nothing_behind(before: w.World, paths: InstancePaths) -> None:
    """Between trial and upgrade a client opens another connection from the same port."""
    before.apply(w.service())
    running(before, range(1, 2))
    loaded = upgraded(paths, LARGER)
    old = migrate.predecessor(paths, loaded)
    assert old is not None
    migrate.plan(old, loaded)
    before.forget_connections()
    before.apply(w.service(members=(w.backend("web1", weight=0), w.backend("web2"))))
    running(before, range(1, 2))

    migrate.carry(paths, loaded)

    with w.World(paths, loaded) as after:
        assert w.owner(after.send(w.tcp("PA", sport=1))) == "web2"


@pytest.mark.parametrize(
    ("name", "pending", "now"),
    [
        ("ESTABLISHED", 0, "ESTABLISHED"),
        ("ESTABLISHED", 1, "MIDSTREAM"),
        ("SYN", 1, "SYN"),
        ("UDP", 1, "DATAGRAM"),
        ("UDP", 0, "UDP"),
        ("FIN", 0, "FIN"),
    ],
)
def test_records_that_had_a_bit_for_one_packet(before: w.World, name: str, pending: int, now: str) -> None:
    new = before.tables.loaded
    numbers = {"SYN": 0, "ESTABLISHED": 1, "FIN": 2, "CLOSED": 3, "UDP": 4}
    maps = deepcopy(new.maps)
    (entries,) = maps["connections4"]["value"]["fields"]
    record = next(field for field in entries["type"]["fields"] if field["name"] == "record")
    fields = record["type"]["fields"]
    state = next(field for field in fields if field["name"] == "state")
    shift, _ = state["bits"]
    state["bits"] = [shift, 3]
    fields.append(state | {"name": "pending", "bits": [shift + 3, 1]})
    enums = new.enums | {"connection_state": {f"CONNECTION_{n}": number for n, number in numbers.items()}}
    old = replace(new, maps=maps, enums=enums)
    word = np.array([7 | (numbers[name] | pending << 3) << shift | 99 << 42], np.uint64)

    (result,) = connections.translated(old, new, "connections4", word).tolist()

    state_number = new.enums["connection_state"][f"CONNECTION_{now}"]
    assert result == 7 | state_number << shift | 99 << 42


def test_services_stay_limited_whose_limit_was_a_bit_of_guard(before: w.World) -> None:
    new = before.tables.loaded
    guards = new.enums["guard_flags"]
    old = replace(new, enums=new.enums | {"guard_flags": guards | {"GUARD_LIMITS": 2}})
    values = np.zeros(2, before.tables.services.dtype)
    values["guard"] = [guards["GUARD_PREFIXES"] | 2, guards["GUARD_PREFIXES"]]
    made = values.copy()

    copying.copy_admission(old, new, values, made)

    assert made["admission"].tolist() == [new.enums["admission_flags"]["ADMIT_LIMITS"], 0]
    assert made["guard"].tolist() == [guards["GUARD_PREFIXES"]] * 2


def as_a_former_release_left_it(paths: InstancePaths) -> None:
    """Its layout.json in the directory of the daemon's user."""
    paths.run.mkdir(parents=True, exist_ok=True)
    paths.layout.rename(paths.former_layout)


def test_flows_are_carried_from_a_release_that_kept_its_layout_elsewhere(
    before: w.World, paths: InstancePaths
) -> None:
    before.apply(w.service(members=TWO))
    had = opened(before, w.tcp)
    as_a_former_release_left_it(paths)

    loaded = upgraded(paths, LARGER)
    migrate.carry(paths, loaded)

    with w.World(paths, loaded) as after:
        assert owners(after, w.tcp) == had


@pytest.mark.parametrize(
    ("name", "part", "forged"),
    [
        ("services", "value", {"size": 4, "type": "u32"}),
        ("services", "value", {"size": 8, "type": "u8"}),
        ("connections4", "max_entries", 1 << 30),
        ("../program", "value", {"size": 8, "type": "u64"}),
    ],
    ids=["smaller", "narrower", "more", "elsewhere"],
)
def test_what_the_user_could_have_forged_is_not_believed(
    before: w.World, paths: InstancePaths, name: str, part: str, forged: object
) -> None:
    """Root would read and write past its memory by it."""
    as_a_former_release_left_it(paths)
    document = json.loads(paths.former_layout.read_text())
    document["maps"].setdefault(name, dict(document["maps"]["services"]))[part] = forged
    paths.former_layout.write_text(json.dumps(document))

    assert build.running(paths) is None


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
