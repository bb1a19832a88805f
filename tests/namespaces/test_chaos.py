# SPDX-License-Identifier: Apache-2.0
"""Chaos, for real: small and short, and for some minutes in the soak."""

import json
import os
import secrets
import signal
import subprocess
import sys

import pytest

from dev.chaos.schedule import DISTURBANCE
from xdpdirector.errors import TimedOutError
from xdpdirector.lab.network import namespaces

pytestmark = pytest.mark.root

COMMAND = [sys.executable, "-m", "dev", "chaos", "--name", "t_chaos"]
SMALL = ["--running", "30", "--rate", "10", "--flood", "2000", "--ports", "2048"]
PASSED, BUSY = "pass", "busy"


def run_chaos(*arguments: str, timeout: float) -> tuple[int, dict[str, object], str]:
    """Its status, its document, and what to say when something is wrong."""
    done = subprocess.run(
        [*COMMAND, "--json", *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    document = json.loads(done.stdout) if done.stdout else {"verdict": None}
    told = json.dumps({name: document.get(name) for name in ("broken", "findings", "options")}, indent=1)
    return done.returncode, document, f"{told}\n{done.stderr}"


def judged(status: int, document: dict[str, object]) -> bool:
    """A machine that is too busy is no fault of the director, and is said to be what it is."""
    return (document["verdict"], status) in {(PASSED, 0), (BUSY, TimedOutError.exit_code)}


def test_a_short_run_breaks_nothing_and_leaves_nothing() -> None:
    some = ["carrier", "daemon killed", "task", "weight", "drain", "enable", "listeners", "add", "SYN"]
    only = [word for kind in some for word in ("--only", kind)]

    status, document, told = run_chaos("--seed", "1", "--minutes", "0.6", *SMALL, *only, timeout=400)

    assert judged(status, document), told
    actions = document["actions"]
    assert isinstance(actions, list)
    assert [one["kind"] for one in actions if one["lane"] == DISTURBANCE and not one["named"]] == []
    assert document["connections"]["running"].keys() == {"idle", "lines", "download"}  # type: ignore[index]
    assert namespaces("t_chaos") == []


def test_it_is_refused_what_it_does_not_know() -> None:
    status, _, told = run_chaos("--only", "earthquake", timeout=60)

    assert status == 2
    assert "chaos knows no 'earthquake'" in told


def test_an_interrupted_run_leaves_nothing() -> None:
    with subprocess.Popen(
        [*COMMAND, *SMALL],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as chaos:
        assert chaos.stderr
        assert any("flood:" in line for line in iter(chaos.stderr.readline, ""))

        chaos.send_signal(signal.SIGTERM)
        chaos.communicate(timeout=120)

    assert chaos.returncode == 128 + signal.SIGTERM
    assert namespaces("t_chaos") == []


@pytest.mark.soak
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(["--running", "100", "--rate", "30", "--flood", "10000"], id="a hundred connections"),
        pytest.param([], id="its usual size"),
    ],
)
def test_minutes_of_it_break_nothing(size: list[str]) -> None:
    """Each time another one; the seed is told when it fails."""
    seed = str(secrets.randbits(32))

    status, document, told = run_chaos("--seed", seed, "--minutes", "4", *size, timeout=1200)

    assert judged(status, document), told
