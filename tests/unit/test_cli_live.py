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
from api_server import ApiServer
from fake_director import FakeDirector
from ruamel.yaml import YAML
from scapy.utils import RawPcapNgReader
from test_explanation import found
from test_tracing import DENIED, FORWARDED

from xdpdirector.cli import main, rates, top
from xdpdirector.cli.render import terminal
from xdpdirector.events import Events
from xdpdirector.lab.waiting import wait_until
from xdpdirector.listener import unicast_address

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
        pytest.param(["2001:db8::7", LISTENER], "not of one version", id="two versions"),
        pytest.param(["198.51.100.7:99999", LISTENER], "65535", id="no port"),
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
    assert shown.err == "2 decisions; 7 more were too many to tell\n"


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


def look(at: float, packets: dict[str, int], *, services: int = 1, name: str = "web") -> rates.Look:
    """So many services of as many backends as there are `packets`, all with the same counters."""
    backends = [
        {
            "name": backend,
            "admin": "enabled",
            "operational": "up",
            "connections": {"active": count // 100, "inactive": 0},
            "traffic": {"packets": count, "bytes": 100 * count, "connections": count // 10},
        }
        for backend, count in packets.items()
    ]
    return rates.Look(
        at,
        {"ready": True, "problems": [], "revision": 3},
        {
            "attachments": [{"interface": "eth0", "mode": "native", "program_id": 42}],
            "connections": 12345,
            "verdicts": {"forward_new": sum(packets.values()), "drop_denied": 7 * int(at), "pass_not_ip": 0},
        },
        [
            {"name": f"{name}{number or ''}", "operational": "up", "backends": backends}
            for number in range(services)
        ],
    )


def drawn(before: rates.Look, after: rates.Look, width: int = 80, height: int = 24) -> list[str]:
    console = terminal(width)
    with console.capture() as capture:
        for part in top.screen("edge", before, after, width, height):
            console.print(part)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_rates_are_what_is_new_a_second() -> None:
    # when
    found = rates.between(
        look(10, {"web1": 1000, "web2": 0}), look(12, {"web1": 1500, "web2": 200, "web3": 20})
    )

    # then
    assert found.backends == {
        ("web", "web1"): rates.Rate(250.0, 200_000.0, 25.0),
        ("web", "web2"): rates.Rate(100.0, 80_000.0, 10.0),
        ("web", "web3"): rates.Rate(10.0, 8_000.0, 1.0),
    }
    assert found.total == rates.Rate(360.0, 288_000.0, 36.0)
    assert (found.of_verdict("drop"), found.of_verdict("reject")) == (7.0, 0.0)


def test_counters_that_began_anew_do_not_go_backwards() -> None:
    found = rates.between(look(10, {"web1": 1000}), look(12, {"web1": 10}))

    assert found.total == rates.Rate()


def test_a_screen_shows_who_gets_what() -> None:
    # when
    shown = drawn(look(10, {"web1": 0, "web2": 0}), look(11, {"web1": 3000, "web2": 1000}))

    # then
    text = "\n".join(shown)
    assert shown[0].startswith("edge ready  eth0 native  12,345 connections stored")
    assert shown[1].startswith("4k packets/s  3.2Mbit/s  400 new/s  0 rejected/s  7 dropped/s")
    assert [line.split()[0] for line in shown[4:7]] == ["web", "web1", "web2"]
    assert shown[5].count("█") == pytest.approx(3 * shown[6].count("█"), abs=2)
    assert "drop_denied" in text
    assert "pass_not_ip" not in text


@pytest.mark.parametrize(
    ("services", "backends", "size"),
    [
        (1, 1, (80, 24)),
        (1, 250, (80, 24)),
        (40, 3, (80, 24)),
        (3, 3, (60, 15)),
        (3, 3, (200, 60)),
    ],
    ids=["small", "many backends", "many services", "a small terminal", "a large one"],
)
def test_a_screen_fits(services: int, backends: int, size: tuple[int, int]) -> None:
    # given
    long = "a-name-of-all-the-letters-that-a-name-may-have-which-is-63-char"
    none = {f"web{number}": 0 for number in range(backends)}
    some = {f"web{number}": 1000 + number for number in range(backends)}

    # when
    shown = drawn(
        look(10, none, services=services, name=long), look(11, some, services=services, name=long), *size
    )

    # then
    assert len(shown) <= size[1]
    assert max(map(len, shown)) <= size[0]


def test_a_screen_without_anything() -> None:
    shown = drawn(look(10, {}, services=0), look(11, {}, services=0))

    assert "no services" in "\n".join(shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.5, "0.5"), (9.994, "9.99"), (12.3, "12"), (999, "999"), (1000, "1k"), (12345, "12.3k"),
     (999_700, "1M"), (3_210_000_000, "3.21G")],
)  # fmt: skip
def test_short_numbers(value: float, shown: str) -> None:
    assert top.short(value) == shown


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
