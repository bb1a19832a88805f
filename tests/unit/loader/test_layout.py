# SPDX-License-Identifier: Apache-2.0
"""layout.json is read back as it was written, or not at all."""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from xdpdirector.loader import layout
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths

LOADED = Loaded(
    program_digest="0" * 64,
    layout_digest="1" * 64,
    program=Path("/sys/fs/bpf/xdpdirector/default/program"),
    program_id=7,
    pins=Path("/sys/fs/bpf/xdpdirector/default/maps-111111111111"),
    sizes=Sizes(services=8),
    maps={"ring": {"type": 2, "key": {"size": 4, "type": "u32"}}},
    enums={"reason": {"PASS": 0}},
    bcc="0.26.0",
)


@dataclass(frozen=True)
class PathsAt(InstancePaths):
    """An instance whose run directory is anywhere."""

    directory: Path = field(default=Path())

    @property
    def run(self) -> Path:
        return self.directory / "run"


@pytest.fixture
def paths(tmp_path: Path) -> PathsAt:
    return PathsAt(directory=tmp_path)


def test_what_is_written_is_read(paths: PathsAt) -> None:
    layout.write(paths, LOADED)

    assert layout.read(paths) == LOADED
    assert [path.name for path in paths.layouts.iterdir()] == ["layout.json"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"version": 2}, id="another version"),
        pytest.param({"sizes": {"services": 0}}, id="impossible size"),
        pytest.param({"unknown": 1}, id="unknown field"),
        pytest.param({"program": None}, id="no program"),
        pytest.param({"pins": "/sys/fs/bpf/xdpdirector/other/maps-111111111111"}, id="another's maps"),
        pytest.param({"pins": "/sys/fs/bpf/xdpdirector/default/.."}, id="maps elsewhere"),
        pytest.param({"program": "/sys/fs/bpf/somebodys/program"}, id="another's program"),
    ],
)
def test_a_document_of_another_kind_is_not_read(paths: PathsAt, change: dict[str, object]) -> None:
    layout.write(paths, LOADED)
    document = json.loads(paths.layout.read_text())

    paths.layout.write_text(json.dumps(document | change))

    assert layout.read(paths) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_broken_file_is_not_read(paths: PathsAt, text: str) -> None:
    paths.layouts.mkdir(parents=True)
    paths.layout.write_text(text)

    assert layout.read(paths) is None


def test_a_missing_file_is_not_read(paths: PathsAt) -> None:
    assert layout.read(paths) is None


def test_what_is_written_anew_is_read_anew(paths: PathsAt) -> None:
    layout.write(paths, LOADED)
    before = layout.read(paths)

    layout.write(paths, replace(LOADED, program_id=8))

    assert (before, layout.read(paths)) == (LOADED, replace(LOADED, program_id=8))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has other users' files")
def test_what_another_user_could_have_written_is_not_believed(paths: PathsAt) -> None:
    layout.write(paths, LOADED)

    os.chown(paths.layouts, 65534, 65534)

    assert layout.read(paths) is None


def test_where_the_user_can_write_nothing_is_believed(paths: PathsAt) -> None:
    """An earlier release had it there."""
    layout.write(paths, LOADED)
    paths.run.mkdir()
    paths.layout.rename(paths.former_layout)

    assert layout.read(paths) is None
    assert layout.read_former(paths) == replace(LOADED, program_id=0)


def test_nothing_is_left_of_it(paths: PathsAt) -> None:
    layout.write(paths, LOADED)
    layout.keep(paths, LOADED)

    layout.clear(paths)

    assert not paths.layouts.parent.exists()
