# SPDX-License-Identifier: Apache-2.0
"""Tables, records and layouts as former releases have left them."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tests.support.world as w
from tests.support.sizes import LARGER, SMALL
from tests.support.upgrades import TWO, changed, opened, owners, upgraded
from xdpdirector.dataplane.migration import connections, copying, migrate
from xdpdirector.loader import (
    build,
    compiler,
)
from xdpdirector.model import Persistence
from xdpdirector.paths import InstancePaths


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
