# SPDX-License-Identifier: Apache-2.0
"""The wheel holds what an installation needs, and nothing that would stand beside the package."""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wheels import CHECKOUT, build

ONLY_FOR_BENCHMARKS = "xdpdirector/bpf/baselines.c"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """The wheel's members."""
    place = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(build(place)) as archive:
        yield set(archive.namelist())
    shutil.rmtree(place)


def test_every_python_file_of_the_checkout_is_in_its_place(names: set[str]) -> None:
    expected = {installed(path) for root in ("xdpdirector", "api", "bpf") for path in sources(root, "*.py")}

    assert expected - names == set()


def test_the_program_is_in_the_package(names: set[str]) -> None:
    present = {name for name in names if name.startswith("xdpdirector/bpf/") and not name.endswith(".py")}

    expected = {installed(path) for path in [*sources("bpf", "*.c"), *sources("bpf", "*.h")]}
    assert "xdpdirector/bpf/director.c" in expected
    assert present == expected - {ONLY_FOR_BENCHMARKS}


def test_the_wheel_holds_only_what_users_use(names: set[str]) -> None:
    """No document or program that only proves this project, and nothing else beside code, program and dashboard."""
    beside = {
        name
        for name in names
        if not name.endswith((".py", ".c", ".h")) and not name.startswith("xdpdirector/api/static/")
    }

    assert {name for name in beside if ".dist-info/" not in name} == set()


def test_the_dashboard_is_in_the_package_where_it_is_built(names: set[str]) -> None:
    built = {installed(path) for path in sources("api/static", "*") if (CHECKOUT / path).is_file()}

    assert built - names == set()


def test_nothing_but_the_package_is_at_the_top(names: set[str]) -> None:
    tops = {name.split("/")[0] for name in names}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"xdpdirector"}


def test_the_command_is_declared(names: set[str]) -> None:
    assert any(name.endswith(".dist-info/entry_points.txt") for name in names)


def sources(root: str, pattern: str) -> list[Path]:
    return sorted(path.relative_to(CHECKOUT) for path in (CHECKOUT / root).rglob(pattern))


def installed(path: Path) -> str:
    """Where a file of the checkout stands in the wheel."""
    return path.as_posix() if path.parts[0] == "xdpdirector" else f"xdpdirector/{path.as_posix()}"
