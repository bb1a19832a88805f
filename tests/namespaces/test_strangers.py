# SPDX-License-Identifier: Apache-2.0
"""examples/packet-tests as a stranger uses it: the steps of its own CI file, with a wheel, in an environment that
knows nothing of this checkout."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.support.wheels import CHECKOUT, build

pytestmark = pytest.mark.network

EXAMPLE = CHECKOUT / "examples" / "packet-tests"
PATIENCE = 600.0  # seconds for a step, on a busy machine: pip fetches what the wheel needs
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


def steps() -> dict[str, str]:
    """What the CI file runs, by name; Debian's packages are there already."""
    workflow = YAML(typ="safe").load(EXAMPLE / ".github" / "workflows" / "packets.yml")
    return {step["name"]: step["run"] for step in workflow["jobs"]["packets"]["steps"] if "run" in step}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A copy of the example, installed as it says; where everybody may look."""
    with tempfile.TemporaryDirectory(prefix="xdpdirector-stranger-", dir="/var/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        folder = place / "packet-tests"
        shutil.copytree(EXAMPLE, folder)
        run(folder, steps()["Install"], XDPDIRECTOR=str(build(place)))
        yield folder


def run(folder: Path, script: str, *before: str, **environment: str) -> str:
    """What it prints; AssertionError with that when it fails. Of this process' environment it gets what pip may
    need, and nothing that leads to the checkout."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PYTHON", "VIRTUAL"))
    }
    done = subprocess.run(
        [*before, "/bin/bash", "-e", "-c", script],
        cwd=folder,
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.root
def test_a_strangers_tests_pass(folder: Path) -> None:
    printed = run(folder, steps()["Test"])

    assert "8 passed" in printed


@pytest.mark.root
def test_without_root_they_are_skipped_and_say_why(folder: Path) -> None:
    printed = run(folder, f"{steps()['Test']} -p no:cacheprovider", *NOBODY)

    assert "8 skipped" in printed
    assert "needs root: BPF and network namespaces" in printed


@pytest.mark.root
def test_whoever_names_the_plugin_has_it_once(folder: Path) -> None:
    printed = run(folder, f"{steps()['Test']} -p xdpdirector.pytest_plugin --collect-only --quiet")

    assert "8 tests collected" in printed


def test_the_plugin_imports_nothing_but_pytest_before_it_is_used() -> None:
    script = (
        "import sys, pytest; a = {*sys.modules}; import xdpdirector.pytest_plugin; print({*sys.modules} - a)"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )

    assert eval(done.stdout) == {"xdpdirector", "xdpdirector.pytest_plugin"}
