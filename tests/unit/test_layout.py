# SPDX-License-Identifier: Apache-2.0
"""layout.json is read back as it was written, or not at all."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from xdpdirector import layout
from xdpdirector.layout import Loaded
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
    assert [path.name for path in paths.run.iterdir()] == ["layout.json"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"version": 2}, id="another version"),
        pytest.param({"sizes": {"services": 0}}, id="impossible size"),
        pytest.param({"unknown": 1}, id="unknown field"),
        pytest.param({"program": None}, id="no program"),
    ],
)
def test_a_document_of_another_kind_is_not_read(paths: PathsAt, change: dict[str, object]) -> None:
    layout.write(paths, LOADED)
    document = json.loads(paths.layout.read_text())

    paths.layout.write_text(json.dumps(document | change))

    assert layout.read(paths) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_a_broken_file_is_not_read(paths: PathsAt, text: str) -> None:
    paths.run.mkdir()
    paths.layout.write_text(text)

    assert layout.read(paths) is None


def test_a_missing_file_is_not_read(paths: PathsAt) -> None:
    assert layout.read(paths) is None


def test_what_is_written_anew_is_read_anew(paths: PathsAt) -> None:
    layout.write(paths, LOADED)
    before = layout.read(paths)

    layout.write(paths, replace(LOADED, program_id=8))

    assert (before, layout.read(paths)) == (LOADED, replace(LOADED, program_id=8))
