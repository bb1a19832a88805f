# SPDX-License-Identifier: Apache-2.0
"""A program that is found in the cache is loaded as if it had been compiled."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.loader_trials import (
    DIRECTOR,
    SMALL,
    in_python,
    run_once,
    write,
)
from xdpdirector import libbpf
from xdpdirector.daemon import startup
from xdpdirector.errors import LoaderError
from xdpdirector.loader import attachment, compile_cache, compiler
from xdpdirector.loader.layout import Loaded
from xdpdirector.paths import COMPILED, InstancePaths

pytestmark = pytest.mark.root

Prepare = Callable[..., Loaded]


@pytest.fixture
def directory(tmp_path: Path, no_cache: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(compile_cache.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def prepare(paths: InstancePaths, program: Path) -> Iterator[Prepare]:
    """In one of two instances: "one" or "other"."""
    instances = {"one": paths, "other": InstancePaths(f"{paths.name}-other")}
    yield lambda name: compiler.prepare_in_child(instances[name], SMALL, program)
    attachment.unload(instances["other"])


def tag(loaded: Loaded) -> str:
    with libbpf.opened(loaded.program) as fd:
        return libbpf.prog_info(fd).tag


def test_it_is_what_the_compiler_made(directory: Path, prepare: Prepare) -> None:
    compiled = prepare("one")
    [kept] = directory.iterdir()

    found = prepare("other")

    assert [*directory.iterdir()] == [kept]
    assert tag(found) == tag(compiled)
    assert (found.maps, found.enums, found.bcc) == (compiled.maps, compiled.enums, compiled.bcc)
    for loaded in (compiled, found):
        run_once(loaded.program)
        with libbpf.opened(loaded.pins / "counts") as fd:
            assert libbpf.lookup(fd, bytes(4), 8) == (1).to_bytes(8, sys.byteorder)


def test_what_is_found_needs_no_compiler(directory: Path, paths: InstancePaths, program: Path) -> None:
    prepare = f"""
import sys
from pathlib import Path
from xdpdirector.loader import compiler
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths
sizes = Sizes.model_validate_json({SMALL.model_dump_json()!r})
compiler.prepare(InstancePaths({paths.name!r}), sizes, Path({str(program)!r}))
print("bcc" in sys.modules)
"""

    assert [in_python(prepare), in_python(prepare)] == ["True", "False"]


def test_maps_that_are_there_are_adopted(directory: Path, prepare: Prepare) -> None:
    run_once(prepare("one").program)

    loaded = prepare("one")
    run_once(loaded.program)

    with libbpf.opened(loaded.pins / "counts") as fd:
        assert libbpf.lookup(fd, bytes(4), 8) == (2).to_bytes(8, sys.byteorder)


def test_a_map_of_another_shape_is_refused(directory: Path, prepare: Prepare) -> None:
    loaded = prepare("one")
    (loaded.pins / "counts").unlink()
    fd = libbpf.map_create("counts", libbpf.MapType.ARRAY, 4, 8, SMALL.services + 1, 0x400)
    libbpf.obj_pin(fd, loaded.pins / "counts")

    with pytest.raises(LoaderError, match="somebody changed it"):
        prepare("one")


def test_another_program_is_compiled(directory: Path, prepare: Prepare, program: Path) -> None:
    first = prepare("one")
    write(program.parent, director=DIRECTOR.replace("+= 1", "+= 3"))

    assert tag(prepare("other")) != tag(first)
    assert len([*directory.iterdir()]) == 2


@pytest.mark.parametrize("content", ["", "{}", "[]", "0\n{}"])
def test_what_is_damaged_is_made_anew(directory: Path, prepare: Prepare, content: str) -> None:
    first = prepare("one")
    [kept] = directory.iterdir()
    whole = functions(kept)
    kept.write_text(content)

    assert tag(prepare("other")) == tag(first)
    assert functions(kept) == whole


def test_an_entry_that_was_changed_is_made_anew(directory: Path, prepare: Prepare) -> None:
    first = prepare("one")
    [kept] = directory.iterdir()
    whole, text = functions(kept), kept.read_text()
    kept.write_text(text.replace('"max_entries": ', '"max_entries": 1'))

    assert tag(prepare("other")) == tag(first)
    assert functions(kept) == whole


def test_maps_keep_their_types(directory: Path, prepare: Prepare) -> None:
    compiled, found = types(prepare("one")), types(prepare("other"))

    assert found.pop("data") == compiled.pop("data")
    assert found == compiled


def types(loaded: Loaded) -> dict[str, object]:
    """By map: the ids of key and value in its BTF. `data`: that BTF."""
    read: dict[str, object] = {}
    for name in loaded.maps:
        with libbpf.opened(loaded.pins / name) as fd:
            btf, key, value = libbpf.map_info(fd).btf
            read[name] = (key, value)
            if btf:  # a devmap and a ring buffer have none
                read["data"] = libbpf.btf_data(btf)
    return read


def functions(entry: Path) -> object:
    """The functions of an entry: their instructions do not depend on the instance, as BTF does."""
    return json.loads(entry.read_text().partition("\n")[2])["functions"]


def test_an_empty_variable_disables_it(
    directory: Path, prepare: Prepare, root_s: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(compile_cache.VARIABLE, "")

    prepare("one")

    assert not directory.exists()
    assert not [*root_s.iterdir()]


def test_without_the_variable_root_s_directory_is_used(
    prepare: Prepare, root_s: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(compile_cache.VARIABLE)

    compiled = prepare("one")
    [kept] = root_s.iterdir()

    assert kept.stat().st_mode & 0o777 & ~0o644 == 0
    assert tag(prepare("other")) == tag(compiled)
    assert [*root_s.iterdir()] == [kept]


def test_a_directory_of_others_is_not_used(
    prepare: Prepare, root_s: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(compile_cache.VARIABLE)
    root_s.chmod(0o777)

    prepare("one")

    assert not [*root_s.iterdir()]


def test_compiled_once_it_is_loaded_and_explained_without_a_compiler(
    root_s: Path, paths: InstancePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(compile_cache.VARIABLE)
    file = tmp_path / "director.yaml"
    file.write_text(f"user: root\nsizes: {SMALL.model_dump_json()}\n")  # as installed, without interfaces

    done = startup.compile_only(file)
    kept = {*root_s.iterdir()}
    loaded = compiler.prepare_in_child(paths, SMALL)
    compiler.ensure_explaining(paths, loaded)

    assert done == 0
    assert len(kept) == 2
    assert {*root_s.iterdir()} == kept


def test_what_is_compiled_for_another_kernel_is_that_kernels(
    directory: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = os.uname()
    monkeypatch.setenv(compile_cache.FOR, f"{here.release} {here.version}")
    prepare("one")
    [kept] = directory.iterdir()

    monkeypatch.setenv(compile_cache.FOR, "6.1.0-57-amd64 #1 SMP Debian 6.1.192-3 (2026-11-26)")
    prepare("one")
    [other] = {*directory.iterdir()} - {kept}
    kept.unlink()
    monkeypatch.delenv(compile_cache.FOR)
    prepare("one")

    assert kept.read_text() == other.read_text()  # this kernel's, by its own name


def test_a_plan_keeps_nothing(
    root_s: Path, paths: InstancePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(compile_cache.VARIABLE)
    file = tmp_path / "director.yaml"
    file.write_text(f"interfaces: [lo]\nsizes: {SMALL.model_dump_json()}\n")

    assert startup.plan(paths.name, file) == 0
    assert not [*root_s.iterdir()]


@pytest.fixture
def root_s() -> Iterator[Path]:
    """The directory that is used by default; tools/isolated gives each run an empty one."""
    COMPILED.mkdir(mode=0o700, exist_ok=True)
    assert not [*COMPILED.iterdir()]
    yield COMPILED
    for entry in COMPILED.iterdir():
        entry.unlink()
    COMPILED.chmod(0o700)


def test_the_oldest_give_way(directory: Path, prepare: Prepare) -> None:
    directory.mkdir()
    for number in range(compile_cache.MOST_NAMED + 10):
        (directory / f"{number}.json").touch()

    prepare("one")

    assert len([*directory.iterdir()]) == compile_cache.MOST_NAMED
