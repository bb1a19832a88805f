# SPDX-License-Identifier: Apache-2.0
"""The services matrix, as a user runs it: all of it passes, and none of it stays."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from xdpdirector.lab.lab_state import Record
from xdpdirector.lab.network import namespaces
from xdpdirector.lab.services.registry import KINDS
from xdpdirector.lab.services.result import COLUMNS
from xdpdirector.lab.topology import Topology

pytestmark = pytest.mark.root

COMMAND = [sys.executable, "-m", "xdpdirector", "lab", "services"]
WHOLE, CUT = "t_services", "t_services_cut"
DEADLINE = 480.0  # of all of it, on a busy machine
# Clients that have one port, and the one that has no session that lasts.
WITHOUT = {
    "PostgreSQL": {"persistence"},
    "MariaDB": {"persistence"},
    "SSH": {"persistence"},
    "DNS, truncated": {"drain", "loss"},
}


def left_behind(name: str) -> list[str]:
    """Namespaces, files, and processes that were started with one of these."""
    directory = Record(name).directory
    processes = [command for command in commands() if f"{directory}/" in command]
    return [*map(str, namespaces(name)), *([str(directory)] if directory.exists() else []), *processes]


def commands() -> Iterator[str]:
    """Of all processes of this machine."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")


@pytest.mark.soak
def test_every_client_sees_what_it_should() -> None:
    done = subprocess.run(
        [*COMMAND, "--json", "--name", WHOLE], capture_output=True, text=True, timeout=DEADLINE, check=False
    )

    document = json.loads(done.stdout) if done.stdout else {"rows": []}
    missed = {
        f"{row['client']}, {column}: {cell['seen']}"
        for row in document["rows"]
        for column, cell in row["cells"].items()
        if not cell["met"]
    }
    cells = {row["client"]: set(COLUMNS) - set(row["cells"]) for row in document["rows"]}
    assert (done.returncode, missed) == (0, set()), done.stderr
    assert document["verdict"] == "pass"
    assert {row["service"] for row in document["rows"]} == set(KINDS)
    assert {client: missing for client, missing in cells.items() if missing} == WITHOUT
    assert left_behind(WHOLE) == []


def test_an_interrupted_one_leaves_nothing() -> None:
    with subprocess.Popen(
        [*COMMAND, "web", "ftp", "--name", CUT],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as playing:
        assert playing.stderr
        assert any("is drained" in line for line in iter(playing.stderr.readline, ""))
        there = left_behind(CUT)

        playing.send_signal(signal.SIGTERM)
        playing.communicate(timeout=60)

    assert len(there) > len(Topology(CUT).nodes)
    assert playing.returncode == 128 + signal.SIGTERM
    assert left_behind(CUT) == []


@pytest.mark.parametrize("name", ["webb", ""])
def test_an_unknown_service_is_refused(name: str) -> None:
    done = subprocess.run([*COMMAND, name], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "web, smtp" in done.stderr
