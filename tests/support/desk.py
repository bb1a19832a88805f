# SPDX-License-Identifier: Apache-2.0
"""A directory like a checkout, and terminals in it, for the sessions of documents. Knows no document."""

import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support.console import Command, File, Step
from tests.support.terminals import OWN, Windows
from xdpdirector.lab.lab import all_names, take_down
from xdpdirector.lab.lab_state import Record
from xdpdirector.lab.topology import NAMESPACES, PREFIX

CHECKOUT = Path(__file__).parents[2]

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


def lay_out(place: Path, labs: Collection[str]) -> Path:
    """A checkout as far as the sessions look at it. A lab of somebody who is at work is not to be run over."""
    for name in labs:
        assert Record(name).topology is None, f"lab '{name}' is up: leave its shell, or take it down"
    script = place / "lab"
    script.write_text(lab_script())
    script.chmod(0o755)
    (place / ".venv").symlink_to(sys.prefix)
    shutil.copytree(CHECKOUT / "examples", place / "examples")
    (place / ".curlrc").write_text("no-progress-meter\n")  # as on a terminal
    (place / "bin").mkdir()
    (place / "bin" / "sudo").write_text(SUDO)
    (place / "bin" / "sudo").chmod(0o755)
    return place


@contextmanager
def opened(desk: Path, labs: Collection[str]) -> Iterator[Windows]:
    """Terminals there; the labs are gone afterwards."""
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
        for name in {*labs} & {*all_names()}:
            take_down(name)


def follow(windows: Windows, desk: Path, name: str, steps: Iterable[Step], labs: Collection[str]) -> None:
    """Write the files of the document `name`, run its commands, and compare what they print."""
    output = ""
    for step in steps:
        if isinstance(step, File):
            (desk / step.name).write_text(step.text)
        elif isinstance(step, Command):
            require_host(windows, step, labs, output)
            output = windows.run(step.prompt, step.text)
            line = f"{name}:{step.line}: {step.prompt} {step.text}"

            assert step.explains(output), "\n".join(
                [line, "should print", *step.expected, "and printed", output]
            )


def require_host(windows: Windows, step: Command, labs: Collection[str], before: str) -> None:
    """`director#` is in a lab's director, or nothing is run there."""
    if step.prompt != OWN:
        here = windows.run(step.prompt, "readlink /proc/self/ns/net").strip()
        hosts = [NAMESPACES / f"{PREFIX}-{name}-{step.prompt[:-1]}" for name in labs]
        there = {f"net:[{host.stat().st_ino}]" for host in hosts if host.exists()}
        assert here in there, f"line {step.line}: no shell shows {step.prompt}; printed before: {before}"
