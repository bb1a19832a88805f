# SPDX-License-Identifier: Apache-2.0
"""Compiling and pinning for real."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.loader_trials import (
    DIRECTOR,
    SMALL,
    decoded,
    in_python,
    map_ids,
    pinned_id,
    run_once,
    write,
)
from xdpdirector import libbpf
from xdpdirector.errors import ConflictError
from xdpdirector.loader import compiler, layout
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths

pytestmark = pytest.mark.root


def test_the_installed_program_loads_without_kernel_headers(paths: InstancePaths) -> None:
    loaded = compiler.prepare_in_child(paths, SMALL)

    assert loaded == layout.read(paths)
    assert pinned_id(loaded.program) == loaded.program_id
    assert sorted(path.name for path in loaded.pins.iterdir()) == sorted(loaded.maps)
    assert loaded.maps["services"]["max_entries"] == SMALL.services
    assert loaded.enums["reason"]["PASS_NOT_IP"] == 0
    assert run_once(loaded.program).verdict == libbpf.XdpVerdict.PASS


def test_the_layout_finds_each_field_where_the_program_wrote_it(paths: InstancePaths, program: Path) -> None:
    loaded = compiler.prepare_in_child(paths, SMALL, program)

    run_once(loaded.program)

    value = loaded.maps["zoos"]["value"]
    with libbpf.opened(loaded.pins / "zoos") as fd:
        raw = libbpf.lookup(fd, bytes(4), value["size"])
    assert raw is not None
    assert decoded(value, raw) == {
        "octet": 0x11,
        "word": 0x22222222,
        "negative": -3,
        "wide": 0x4444444444444444,
        "low": 0x55555,
        "high": 0x666,
        "mac": bytes.fromhex("700000000075"),
        "shorts": [0, 0, 0x8888],
        "pair": {"left": 0x9999, "right": 0, "pad": 0},
        "pairs": [{"left": 0, "right": 0, "pad": 0}, {"left": 0, "right": 0xAA, "pad": 0}],
        "choice": 0xBBBBBBBB,
        "part": 0xBB,
        "address": [0, 0, 0, 0xCCCCCCCC],
        "last": 0xDD,
    }


def test_every_kind_of_map_is_described(paths: InstancePaths, program: Path) -> None:
    loaded = compiler.prepare_in_child(paths, SMALL, program)

    described = {
        name: (shape["type"], shape["key_size"], shape["value_size"], shape["max_entries"], shape["flags"])
        for name, shape in loaded.maps.items()
    }
    assert described == {
        "zoos": (libbpf.MapType.ARRAY, 4, loaded.maps["zoos"]["value"]["size"], 1, 0),
        "counts": (libbpf.MapType.ARRAY, 4, 8, SMALL.services, 0x400),
        "tallies": (libbpf.MapType.PERCPU_ARRAY, 4, 4, 4, 0),
        "flows": (libbpf.MapType.LRU_HASH, 4, 4, SMALL.connections, 0),
        "ports": (libbpf.MapType.DEVMAP, 4, 4, 64, 0),
    }
    assert loaded.maps["counts"]["value"] == {"size": 8, "type": "u64"}
    assert loaded.maps["ports"]["value"] == {"size": 4, "type": "s32"}


def test_a_further_function_is_pinned_by_its_name(paths: InstancePaths, program: Path) -> None:
    compiler.prepare_in_child(paths, SMALL, program)

    assert run_once(paths.pins / "clock").verdict == libbpf.XdpVerdict.DROP


def test_preparing_again_keeps_the_maps_and_what_they_hold(paths: InstancePaths, program: Path) -> None:
    first = compiler.prepare_in_child(paths, SMALL, program)
    run_once(first.program)
    write(program.parent, director=DIRECTOR.replace("+= 1", "+= 2"))

    second = compiler.prepare_in_child(paths, SMALL, program)
    run_once(second.program)

    assert map_ids(second) == map_ids(first)
    assert second.program_id != first.program_id
    with libbpf.opened(second.pins / "counts") as fd:
        assert libbpf.lookup(fd, bytes(4), 8) == (1 + 2).to_bytes(8, sys.byteorder)


def test_other_sizes_make_other_maps_and_leave_the_old_ones(paths: InstancePaths, program: Path) -> None:
    first = compiler.prepare_in_child(paths, SMALL, program)
    before = map_ids(first)

    second = compiler.prepare_in_child(paths, SMALL.model_copy(update={"services": 5}), program)

    assert second.pins != first.pins
    assert second.maps["counts"]["max_entries"] == 5
    assert map_ids(first) == before


def test_what_is_current_need_not_be_loaded_again(paths: InstancePaths, program: Path) -> None:
    assert compiler.current(paths, SMALL, program) is None

    first = compiler.ensure(paths, SMALL, program)

    assert compiler.current(paths, SMALL, program) == first
    assert compiler.ensure(paths, SMALL, program).program_id == first.program_id
    assert compiler.current(paths, Sizes(), program) is None
    write(program.parent, director=DIRECTOR.replace("+= 1", "+= 2"))
    assert compiler.current(paths, SMALL, program) is None


@pytest.mark.parametrize("victim", ["program", "maps-*/flows"])
def test_what_lost_a_pin_is_not_current(paths: InstancePaths, program: Path, victim: str) -> None:
    compiler.prepare_in_child(paths, SMALL, program)

    next(paths.pins.glob(victim)).unlink()

    assert compiler.current(paths, SMALL, program) is None
    assert compiler.ensure(paths, SMALL, program) == compiler.current(paths, SMALL, program)


def test_two_loaders_at_once_end_with_one_program(paths: InstancePaths, program: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        loaded = list(pool.map(lambda _: compiler.prepare_in_child(paths, SMALL, program), range(2)))

    assert map_ids(loaded[0]) == map_ids(loaded[1])
    assert compiler.current(paths, SMALL, program) in loaded


def test_llvm_stays_out_of_the_process(paths: InstancePaths, program: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from xdpdirector.loader import compiler\n"
        "from xdpdirector.model import Sizes\n"
        "from xdpdirector.paths import InstancePaths\n"
        f"compiler.prepare_in_child(InstancePaths({paths.name!r}), Sizes(), Path({str(program)!r}))\n"
        "print('bcc' in sys.modules, 'libbcc' in Path('/proc/self/maps').read_text())\n"
    )

    assert in_python(code) == "False False"


def test_nothing_explains_a_program_that_is_not_the_installed_one(
    paths: InstancePaths, program: Path
) -> None:
    """As after an upgrade of the package while the daemon of before runs on."""
    loaded = compiler.prepare_in_child(paths, SMALL, program)
    write(program.parent, director=DIRECTOR.replace("+= 1", "+= 3"))

    with pytest.raises(ConflictError, match="restart the daemon"):
        compiler.ensure_explaining(paths, loaded, program)


def test_nothing_explains_a_program_that_another_one_has_followed(
    paths: InstancePaths, program: Path
) -> None:
    before = compiler.prepare_in_child(paths, SMALL, program)
    write(program.parent, director=DIRECTOR.replace("+= 1", "+= 3"))
    compiler.prepare_in_child(paths, SMALL, program)

    with pytest.raises(ConflictError, match="restart the daemon"):
        compiler.ensure_explaining(paths, before, program)
