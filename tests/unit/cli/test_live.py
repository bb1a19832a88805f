# SPDX-License-Identifier: Apache-2.0
"""Commands that watch and explain: what they ask, what they show, and how they end."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from ruamel.yaml import YAML
from scapy.utils import RawPcapNgReader

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from tests.unit.control.test_explain_text import found
from tests.unit.control.test_trace_sessions import DENIED, FORWARDED
from xdpdirector.cli import main
from xdpdirector.control.events import Events
from xdpdirector.dataplane.explain_types import frame_of
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model.listener import unicast_address

VIP, WEB1 = "192.0.2.10", "192.0.2.21"
LISTENER = f"{VIP}:80/tcp"
INTERRUPTED, PIPE_CLOSED = 130, 141
Run = Callable[..., int]


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("live") / "api.sock"


@pytest.fixture(scope="module")
def serving(socket: Path) -> Iterator[tuple[FakeDirector, ApiServer]]:
    director = FakeDirector()
    with ApiServer(director, socket) as server:
        yield director, server


@pytest.fixture
def server(serving: tuple[FakeDirector, ApiServer]) -> ApiServer:
    return serving[1]


@pytest.fixture
def director(serving: tuple[FakeDirector, ApiServer]) -> FakeDirector:
    """With the service `web` and its backend `web1`; as new for every test."""
    director, server = serving
    director.__init__()  # type: ignore[misc]
    web = {"name": "web", "listeners": [LISTENER], "backends": {"web1": {"address": WEB1}}}
    server.client.post("/v1/services", web)
    return director


@pytest.fixture
def run(director: FakeDirector, socket: Path) -> Run:
    return lambda *arguments: main(["--socket", str(socket), *arguments])


@pytest.fixture
def started(director: FakeDirector, socket: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A command as a process of its own, which is ended with the test."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str, output: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "xdpdirector", "--socket", str(socket), *arguments]
        running.append(subprocess.Popen(command, stdout=output, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for each in running:
        each.kill()
        each.wait()
        for pipe in filter(None, (each.stdout, each.stderr)):
            pipe.close()


# explain


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["198.51.100.7:1234", LISTENER], ("198.51.100.7", 1234, "tcp", "S"), id="all"),
        pytest.param(["198.51.100.7", f"{VIP}:80"], ("198.51.100.7", 40000, "tcp", "S"), id="short"),
        pytest.param(["198.51.100.7:1", f"{VIP}:53/udp"], ("198.51.100.7", 1, "udp", ""), id="udp"),
        pytest.param(
            ["198.51.100.7:1", LISTENER, "--flags", "fa"], ("198.51.100.7", 1, "tcp", "FA"), id="flags"
        ),
    ],
)
def test_explain_asks(
    run: Run, director: FakeDirector, arguments: list[str], expected: tuple[Any, ...]
) -> None:
    # given
    director.plane.findings[unicast_address(VIP)] = found("pass_not_vip")

    # when
    code = run("explain", *arguments)

    # then
    (asked,) = director.plane.asked
    assert code == 0
    assert (str(asked.client), asked.client_port, asked.protocol, asked.flags) == expected


def test_explain_asks_about_a_payload(run: Run, director: FakeDirector) -> None:
    director.plane.findings[unicast_address(VIP)] = found("pass_not_vip")

    assert run("explain", "198.51.100.7:1", f"{VIP}:443/udp", "--payload", "40C0000215") == 0

    (asked,) = director.plane.asked
    frame = frame_of(asked, bytes(6), bytes(6))
    assert frame[38:] == bytes.fromhex(
        "000d000040c0000215"
    )  # length and checksum of UDP, and what it carries


def test_explain_answers_a_person(
    run: Run, director: FakeDirector, capsys: pytest.CaptureFixture[str]
) -> None:
    # given
    finding = found("forward_new", "service", "scheduled", backend="web1")
    director.plane.findings[unicast_address(VIP)] = finding

    # when
    run("explain", "198.51.100.7:1234", LISTENER)

    # then
    shown = capsys.readouterr().out
    for part in (
        "198.51.100.7:1234 -> 192.0.2.10:80/tcp S, coming in on eth0",
        "forward to web/web1, 02:00:00:00:00:21 on eth0 [forward_new]",
        "because it opens a connection, and web1 has the least load",
        "<--",
    ):
        assert part in shown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["198.51.100.7", f"{VIP}:*/tcp"], "many ports", id="which port"),
        pytest.param(["198.51.100.7", "web"], "not a listener", id="a service"),
        pytest.param(["somebody", LISTENER], "somebody", id="no address"),
        pytest.param(["2001:db8::7", LISTENER], "of different IP versions", id="two versions"),
        pytest.param(["198.51.100.7:99999", LISTENER], "65535", id="no port"),
        pytest.param(
            ["198.51.100.7", LISTENER, "--payload", "40"], "payload is that of a datagram", id="TCP"
        ),
        pytest.param(["198.51.100.7", f"{VIP}:53/udp", "--payload", "4"], "payload", id="no octets"),
    ],
)
def test_explain_refuses_nonsense(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run("explain", *arguments) == 2
    assert said in capsys.readouterr().err


# events


@pytest.fixture
def happened(director: FakeDirector) -> Events:
    director.events.publish("backend.up", "web/web1", "up")
    director.events.publish("vip.absent", VIP, "gone")
    director.events.publish("backend.down", "web/web1", "down: connection refused")
    return director.events


def test_events_that_were(run: Run, happened: Events, capsys: pytest.CaptureFixture[str]) -> None:
    # when
    code = run("events", "--last", "2")

    # then
    lines = capsys.readouterr().out.splitlines()
    assert code == 0
    assert [line.split()[2:4] for line in lines] == [["vip.absent", VIP], ["backend.down", "web/web1"]]
    assert lines[1].endswith("down: connection refused")


def test_events_as_lines_of_json(run: Run, happened: Events, capsys: pytest.CaptureFixture[str]) -> None:
    # when
    run("events", "--types", "backend", "-o", "json")

    # then
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["kind"] for each in documents] == ["backend.up", "backend.down"]


def test_events_are_followed_over_the_end_of_a_daemon(
    happened: Events, started: Callable[..., subprocess.Popen[str]], director: FakeDirector
) -> None:
    # given
    following = started("events", "--follow", "--last", "1", "-o", "json")
    assert following.stdout is not None
    first = json.loads(following.stdout.readline())

    # when
    director.events = Events()
    happened.close()
    director.events.publish("backend.up", "web/web1", "up again")
    gap, second = (json.loads(following.stdout.readline()) for _ in range(2))
    following.send_signal(signal.SIGINT)

    # then
    assert (first["kind"], second["text"]) == ("backend.down", "up again")
    assert gap["kind"] == "gap"
    assert following.wait() == INTERRUPTED
    assert "Traceback" not in following.communicate()[1]


# trace


def test_a_trace_for_people(run: Run, director: FakeDirector, capsys: pytest.CaptureFixture[str]) -> None:
    # given
    director.plane.told, director.plane.missed = [FORWARDED, DENIED], 7

    # when
    code = run("trace", "--service", "web", "--count", "2")

    # then
    shown = capsys.readouterr()
    assert code == 0
    assert [line.split()[1:] for line in shown.out.splitlines()] == [
        ["198.51.100.7:40000", ">", "192.0.2.10:80/tcp", "S", "forward_new", "web/web1"],
        ["198.51.100.7:40000", ">", "192.0.2.10:80/tcp", "S", "drop_denied", "web"],
    ]
    assert shown.err == "2 decisions; 7 more were not reported\n"


def test_a_trace_for_wireshark(run: Run, director: FakeDirector, tmp_path: Path) -> None:
    # given
    director.plane.told = [FORWARDED, DENIED]
    capture = tmp_path / "trace.pcapng"

    # when
    run("trace", "--count", "2", "--write", str(capture))

    # then
    with RawPcapNgReader(io.BytesIO(capture.read_bytes())) as reader:
        packets = [(frame, meta.wirelen, meta.comments) for frame, meta in reader]
    assert packets == [
        (FORWARDED.frame, FORWARDED.length, [b"forward_new web/web1"]),
        (DENIED.frame, DENIED.length, [b"drop_denied web"]),
    ]


def test_a_trace_that_is_interrupted_says_what_it_saw(
    director: FakeDirector, started: Callable[..., subprocess.Popen[str]]
) -> None:
    # given
    director.plane.told = [FORWARDED]
    watching = started("trace", "-o", "json")
    assert watching.stdout is not None
    watching.stdout.readline()

    # when
    watching.send_signal(signal.SIGINT)

    # then
    assert watching.wait() == 0
    assert watching.communicate()[1] == "1 decisions\n"


def test_a_trace_that_nobody_reads_ends(
    director: FakeDirector, started: Callable[..., subprocess.Popen[str]]
) -> None:
    # given
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as output:
        watching = started("trace", output=output)
    wait_until(lambda: director.plane.watched is not None, "somebody watches")

    # when
    os.close(reading)
    director.plane.told = [FORWARDED]

    # then
    assert watching.wait() == PIPE_CLOSED
    assert "Traceback" not in watching.communicate()[1]
    wait_until(lambda: director.plane.watched is None, "nobody watches")


def test_a_file_that_cannot_be_written_is_named(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trace", "--write", "/nowhere/trace.pcapng") == 2
    assert "/nowhere/trace.pcapng cannot be written: No such file" in capsys.readouterr().err


# Looking again and again


@pytest.mark.parametrize("command", [["status"], ["backend", "list"], ["connections"]], ids=" ".join)
def test_watching_goes_on_until_somebody_has_seen_enough(
    started: Callable[..., subprocess.Popen[str]], command: list[str]
) -> None:
    # given
    watching = started(*command, "--watch")
    assert watching.stdout is not None
    first = watching.stdout.readline()

    # when
    while watching.stdout.readline() != first:
        pass
    watching.send_signal(signal.SIGINT)

    # then
    assert watching.wait() == 0
    assert watching.communicate()[1] == ""


@pytest.mark.parametrize("command", [["top"], ["service", "show", "web", "--watch"]], ids=" ".join)
def test_a_terminal_is_given_back_as_it_was(director: FakeDirector, socket: Path, command: list[str]) -> None:
    # given
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(theirs)
    line = [sys.executable, "-m", "xdpdirector", "--socket", str(socket), *command]
    watching = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs)
    shown = b""
    while b"web1" not in shown:
        shown += os.read(ours, 65536)

    # when
    os.write(ours, b"q")
    code = watching.wait()

    # then
    assert code == 0
    assert termios.tcgetattr(theirs) == before
    os.close(theirs)
    os.close(ours)


def test_yaml_is_the_apis_document(run: Run, server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    # when
    run("service", "show", "web", "-o", "yaml")

    # then
    assert YAML(typ="safe").load(capsys.readouterr().out) == server.client.get("/v1/services/web")


def test_the_data_plane_for_people(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    # when
    code = run("dataplane")

    # then
    shown = capsys.readouterr().out
    assert code == 0
    assert "42, tag 0, 3 instructions" in shown
    assert "There are no backends." in shown


# Completion


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("service show ", ["web"], id="services"),
        pytest.param("backend drain we", ["web/web1"], id="backends"),
        pytest.param("backend drain mail", [], id="none that begin so"),
        pytest.param("explain 198.51.100.7 ", [LISTENER], id="listeners"),
        pytest.param("trace --service ", ["web"], id="an option"),
        pytest.param("datap", ["dataplane"], id="commands"),
    ],
)
def test_names_are_completed(director: FakeDirector, socket: Path, words: str, expected: list[str]) -> None:
    # given
    line = f"xdpdirector --socket {socket} {words}"
    place = str(len(line.split()) - (not words.endswith(" ")))
    asked = {"_XDPDIRECTOR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": place}

    # when
    done = subprocess.run(
        [sys.executable, "-m", "xdpdirector"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=False,
    )

    # then
    assert done.stdout.split() == expected
    assert done.stderr == ""


def test_completion_without_a_daemon_is_silent(tmp_path: Path) -> None:
    # given
    line = f"xdpdirector --socket {tmp_path / 'none'} service show "
    asked = {"_XDPDIRECTOR_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "5"}

    # when
    done = subprocess.run(
        [sys.executable, "-m", "xdpdirector"],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=False,
    )

    # then
    assert (done.stdout.split(), done.stderr) == ([], "")


# top


def test_top_without_a_terminal_is_one_look(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    # when
    code = run("top", "--interval", "0.1")

    # then
    shown = capsys.readouterr().out
    assert code == 0
    assert "web1" in shown


# No daemon


@pytest.mark.parametrize(
    "command",
    [["status"], ["top", "--once"], ["events"], ["events", "-f"], ["trace"], ["dataplane"],
     ["explain", "198.51.100.7", LISTENER], ["status", "--watch"]],
    ids=" ".join,
)  # fmt: skip
def test_without_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert main(["--socket", str(tmp_path / "none"), *command]) == 3
    assert "Is it running?" in capsys.readouterr().err
