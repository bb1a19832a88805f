# SPDX-License-Identifier: Apache-2.0
"""The sessions in README and docs/ are run, command by command, and print what stands there."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.console import (
    Command,
    File,
    NotRun,
    documents,
    steps,
)
from tests.support.terminals import OWN, Windows
from xdpdirector.lab.lab import all_names, take_down
from xdpdirector.lab.lab_state import Record
from xdpdirector.lab.topology import NAMESPACES, PREFIX

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = {str(path.relative_to(CHECKOUT)): list(steps(path.read_text())) for path in documents(CHECKOUT)}
SESSIONS = {
    name: found for name, found in DOCUMENTS.items() if any(isinstance(one, Command) for one in found)
}
LABS = ("shell", "first")  # what the sessions call theirs

# Blocks that are shown only: what they need, this test has not.
NOT_RUN = {"docs/first-hour.md": ["it installs packages, and shows the demo"]}

# A terminal's PATH, and what sudo makes of it (Debian's secure_path): the checkout's commands are in neither.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SUDO = f'#!/bin/sh\nPATH={SYSTEM_PATH}\nexport PATH\nexec "$@"\n'


def lab_script() -> str:
    """./lab as it is, of this checkout, with all that it would install already there."""
    text = (CHECKOUT / "lab").read_text()
    for line, instead in (
        ('here=$(dirname "$(readlink -f "$0")")', f"here={shlex.quote(str(CHECKOUT))}"),
        ("    . tools/install.sh", "    ensure() { :; }"),
        ('export PATH="$here/.venv/bin:', f'export PATH="{Path(sys.prefix) / "bin"}:'),
    ):
        assert line in text, line
        text = text.replace(line, instead)
    return text


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A checkout as far as the sessions look at it. A lab of somebody who is at work is not to be run over."""
    for name in LABS:
        assert Record(name).topology is None, f"lab '{name}' is up: leave its shell, or take it down"
    script = tmp_path / "lab"
    script.write_text(lab_script())
    script.chmod(0o755)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    shutil.copytree(CHECKOUT / "examples", tmp_path / "examples")
    (tmp_path / ".curlrc").write_text("no-progress-meter\n")  # as on a terminal
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sudo").write_text(SUDO)
    (tmp_path / "bin" / "sudo").chmod(0o755)
    return tmp_path


@pytest.fixture
def windows(desk: Path) -> Iterator[Windows]:
    try:
        environment = {
            "PATH": f"{desk / 'bin'}:{SYSTEM_PATH}",
            "SHELL": "/bin/bash",
            "CURL_HOME": str(desk),
            "XDPDIRECTOR_INSTANCE": "docs",
        }
        with closing(Windows(desk, environment)) as windows:
            yield windows
    finally:
        for name in {*LABS} & {*all_names()}:
            take_down(name)


def require_host(windows: Windows, step: Command, before: str) -> None:
    """`director#` is in a lab's director, or nothing is run there."""
    if step.prompt != OWN:
        here = windows.run(step.prompt, "readlink /proc/self/ns/net").strip()
        hosts = [NAMESPACES / f"{PREFIX}-{name}-{step.prompt[:-1]}" for name in LABS]
        there = {f"net:[{host.stat().st_ino}]" for host in hosts if host.exists()}
        assert here in there, f"line {step.line}: no shell shows {step.prompt}; printed before: {before}"


@pytest.mark.root
@pytest.mark.parametrize("name", SESSIONS)
def test_a_session_goes_as_it_stands_there(name: str, desk: Path, windows: Windows) -> None:
    output = ""
    for step in SESSIONS[name]:
        if isinstance(step, File):
            (desk / step.name).write_text(step.text)
        elif isinstance(step, Command):
            require_host(windows, step, output)
            output = windows.run(step.prompt, step.text)
            place = f"{name}:{step.line}: {step.prompt} {step.text}"

            assert step.explains(output), "\n".join(
                [place, "should print", *step.expected, "and printed", output]
            )


def test_what_is_not_run_is_named() -> None:
    found = {
        name: [step.why for step in each if isinstance(step, NotRun)] for name, each in DOCUMENTS.items()
    }

    assert {name: whys for name, whys in found.items() if whys} == NOT_RUN
