# SPDX-License-Identifier: Apache-2.0
"""Commands as processes: what a shell sees, and what they load to get there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector

COMMAND = [sys.executable, "-m", "xdpdirector"]
WEB = {"name": "web", "listeners": ["192.0.2.10:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}
HEAVY = {
    "xdpdirector.model.service",
    "xdpdirector.lab.commands",
    "fastapi",
    "starlette",
    "uvicorn",
    "numpy",
    "pyroute2",
    "ruamel.yaml",
    "bcc",
    "asyncio",
}


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("process") / "api.sock"
    director = FakeDirector()
    with ApiServer(director, path) as server:
        server.client.post("/v1/services", WEB)
        director.busy["web", "web1"] = 400
        yield path


def run(socket: Path, *arguments: str, interpreter: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *interpreter, "-m", "xdpdirector", "--socket", str(socket), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_process_answers_in_json(socket: Path) -> None:
    done = run(socket, "service", "list", "-o", "json")

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["items"][0]["name"] == "web"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status"], 0),
        (["service", "show", "nope"], 2),
        (["no-such-command"], 2),
        (["--socket", "/nonexistent/api.sock", "status"], 3),
        (["backend", "remove", "web/web1"], 4),
        (["backend", "drain", "web/web1", "--wait", "--deadline", "100ms"], 5),
    ],
    ids=["ok", "not found", "usage", "unreachable", "conflict", "timed out"],
)
def test_exit_codes_reach_the_shell(socket: Path, arguments: list[str], code: int) -> None:
    done = run(socket, *arguments)

    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == bool(code)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["status"], ["backend", "list", "-o", "json"]], ids=" ".join
)
def test_commands_that_ask_load_nothing_heavy(socket: Path, arguments: list[str]) -> None:
    done = run(socket, *arguments, interpreter=("-X", "importtime"))

    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "typer" in imported
    assert imported & HEAVY == set()


def test_a_closed_pipe_is_quiet(socket: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [*COMMAND, "--socket", str(socket), "connections", "--limit", "1000"],
            stdout=write,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)

    assert (done.returncode, done.stderr) == (141, b"")


def test_ctrl_c_is_quiet(socket: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "--socket", str(socket), "backend", "remove", "web/web1", "--drain", "10m"],
        stderr=subprocess.PIPE,
    ) as waiting:
        while "drain" not in run(socket, "backend", "show", "web/web1").stdout:
            assert waiting.poll() is None
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=60)

    assert (waiting.returncode, b"Traceback" in said) == (130, False)


def test_a_terminal_gets_colours_and_a_pipe_does_not(socket: Path) -> None:
    leader, follower = os.openpty()
    try:
        subprocess.run(
            [*COMMAND, "--socket", str(socket), "backend", "list"],
            stdout=follower,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": ""},
            timeout=60,
            check=True,
        )
        shown = os.read(leader, 65536)
    finally:
        os.close(follower)
        os.close(leader)

    assert b"\x1b[" in shown
    assert "\x1b[" not in run(socket, "backend", "list").stdout


def shell(socket: Path, command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run by a shell; `$x` is the program that asks the daemon."""
    program = f"{sys.executable} -m xdpdirector --socket {socket}"
    return subprocess.run(
        ["/bin/bash", "-c", command],
        capture_output=True,
        env={**os.environ, **environment, "x": program},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", ["service list", "service list -o json", "config show -o yaml", "--help"])
@pytest.mark.parametrize(
    ("output", "why"), [("/dev/full", "No space left on device"), ("&-", "Bad file descriptor")]
)
def test_output_that_cannot_be_written_is_a_write_error(
    socket: Path, command: str, output: str, why: str
) -> None:
    done = shell(socket, f"$x {command} >{output}")

    assert (done.returncode, done.stderr.decode()) == (1, f"xdpdirector: write error: {why}\n")


def test_all_standard_streams_may_be_closed(socket: Path) -> None:
    """The connection to the daemon must not become standard output."""
    done = shell(socket, "$x service list <&- >&- 2>&-")

    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_characters_that_the_encoding_lacks_are_escaped(socket: Path) -> None:
    done = shell(
        socket,
        "$x backend drain web/web1 --reason 'ž → ok' -o json; $x backend enable web/web1 -o json",
        PYTHONIOENCODING="latin-1",
    )

    assert done.stderr == b""
    assert b"\\u017e \\u2192 ok" in done.stdout


@pytest.mark.parametrize(
    "command", ["backend drain web/$'\\xff'", "backend drain web/web1 --reason $'caf\\xe9'"]
)
def test_an_argument_that_is_no_text_is_a_usage_error(socket: Path, command: str) -> None:
    done = shell(socket, f"$x {command}")

    assert done.returncode == 2
    assert b"no UTF-8 text" in done.stderr
    assert b"\\x" in done.stderr


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_text_from_outside_reaches_no_terminal_as_a_command(socket: Path, output: str) -> None:
    hostile = "\u202egnp.exe \x9b31m \u2066x"
    drained = run(socket, "backend", "drain", "web/web1", "--reason", hostile, "-o", output)
    run(socket, "backend", "enable", "web/web1")

    assert drained.returncode == 0
    assert not set(drained.stdout) & set("\u202e\x9b\u2066\x1b")
    if output == "json":
        assert json.loads(drained.stdout)["drain"]["reason"] == hostile
