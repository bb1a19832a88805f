# SPDX-License-Identifier: Apache-2.0
"""The wheel holds what an installation needs, and nothing that would stand beside the package."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
BUILT = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[set[str]]:
    """The wheel's members. Built from a copy: a build leaves files that the next would pick up."""
    copy = tmp_path_factory.mktemp("wheel") / "checkout"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(CHECKOUT / name, copy)
    for name in ("xdpdirector", "api", "bpf"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=BUILT)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "built", "."]

    result = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300)

    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = (copy / "built").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        yield set(archive.namelist())
    shutil.rmtree(copy)


def test_every_python_file_of_the_checkout_is_in_its_place(names: set[str]) -> None:
    expected = {installed(path) for root in ("xdpdirector", "api", "bpf") for path in sources(root, "*.py")}

    assert expected - names == set()


def test_the_program_is_in_the_package(names: set[str]) -> None:
    expected = {installed(path) for path in [*sources("bpf", "*.c"), *sources("bpf", "*.h")]}

    assert "xdpdirector/bpf/director.c" in expected
    assert expected - names == set()


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
