# SPDX-License-Identifier: Apache-2.0
"""Commands in this process, against the API on a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import CLIENT, FakeDirector
from xdpdirector import __version__, errors
from xdpdirector.cli import main
from xdpdirector.model.passive import HandshakeTimes, PassiveCounts
from xdpdirector.model.status import CidPackets

LISTENER = "192.0.2.10:80/tcp"
WEB1, WEB2 = "192.0.2.21", "192.0.2.22"
LONG = "a-name-of-all-the-letters-that-a-name-may-have-which-is-63-char"
Run = Callable[..., int]


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli") / "api.sock"


@pytest.fixture(scope="module")
def server(socket: Path) -> Iterator[tuple[FakeDirector, ApiServer]]:
    director = FakeDirector()
    with ApiServer(director, socket) as server:
        yield director, server


@pytest.fixture
def director(server: tuple[FakeDirector, ApiServer]) -> Iterator[FakeDirector]:
    """With the service `web` and its backend `web1`; as new for every test."""
    director, api = server
    director.__init__()  # type: ignore[misc]
    web = {"name": "web", "listeners": [LISTENER], "backends": {"web1": {"address": WEB1}}}
    api.client.post("/v1/services", web)
    yield director
    director.broken = None


@pytest.fixture
def run(director: FakeDirector, socket: Path) -> Run:
    return lambda *arguments: main(["--socket", str(socket), *arguments])


@pytest.fixture
def answered(run: Run, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The document that a command writes with `-o json`."""

    def ask(*arguments: str, code: int = 0) -> Any:
        assert run(*arguments, "-o", "json") == code
        return json.loads(capsys.readouterr().out)

    return ask


def test_version(answered: Callable[..., Any]) -> None:
    assert answered("version") == {"version": __version__}


def test_version_as_an_option(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"xdpdirector {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("service", "list"), "/v1/services"),
        (("service", "show", "web"), "/v1/services/web"),
        (("backend", "list", "web"), "/v1/services/web/backends"),
        (("backend", "list"), "/v1/services/web/backends"),
        (("backend", "show", "web/web1"), "/v1/services/web/backends/web1"),
        (("connections",), "/v1/connections"),
        (("stats",), "/v1/stats"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_json_is_the_apis_document(
    answered: Callable[..., Any],
    server: tuple[FakeDirector, ApiServer],
    arguments: tuple[str, ...],
    path: str,
) -> None:
    assert answered(*arguments) == server[1].client.get(path)


def test_labels_are_given_shown_chosen_by_and_taken_away(
    run: Run, answered: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answered("service", "set", "web", "--label", "team=shop", "--label", "old=no")
    answered("backend", "set", "web/web1", "--label", "rack=b3")

    run("service", "list", "-l", "team=shop")
    services = capsys.readouterr().out
    run("backend", "list", "-l", "rack=b3")
    backends = capsys.readouterr().out
    run("service", "show", "web")
    shown = capsys.readouterr().out

    assert "LABELS" in services
    assert "old=no,team=shop" in services
    assert "rack=b3" in backends
    assert ["labels", "old=no,team=shop"] in [line.split() for line in shown.splitlines()]
    assert answered("service", "list", "-l", "team=mail")["items"] == []
    assert answered("service", "set", "web", "--label", "old-")["labels"] == {"team": "shop"}


def test_lists_without_labels_have_no_column_for_them(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("service", "list")
    run("backend", "list")

    assert "LABELS" not in capsys.readouterr().out


def test_status_joins_three_documents(
    answered: Callable[..., Any], server: tuple[FakeDirector, ApiServer]
) -> None:
    client = server[1].client
    assert answered("status") == {
        "readiness": client.get("/readyz"),
        "statistics": client.get("/v1/stats"),
        "services": client.get("/v1/services")["items"],
    }


@pytest.mark.parametrize(
    ("down", "problems", "admin", "code"),
    [
        (False, (), "enable", 0),
        (True, (), "enable", 1),
        (True, (), "maintenance", 0),
        (False, ("the map is full",), "enable", 1),
    ],
    ids=["well", "a backend is down", "down in maintenance", "not ready"],
)
def test_status_tells_health_by_its_exit_code(
    run: Run, director: FakeDirector, down: bool, problems: tuple[str, ...], admin: str, code: int
) -> None:
    if down:
        director.down["web", "web1"] = "connection refused"
    director.problems = problems
    run("backend", admin, "web/web1")

    assert run("status") == code


SECOND = "192.0.2.11"


@pytest.fixture
def lacking(run: Run, director: FakeDirector, capsys: pytest.CaptureFixture[str]) -> str:
    """`web` has another VIP, which web1 lacks."""
    run("service", "set", "web", "--listen", LISTENER, "--listen", f"{SECOND}:80/tcp")
    director.lacking["web", "web1", ip_address(SECOND)] = "the server has lost the VIP"
    capsys.readouterr()
    return SECOND


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        pytest.param(
            ["backend", "show", "web/web1"],
            ["state partial", f"at {SECOND} down: the server has lost the VIP", "serving yes"],
            id="the backend",
        ),
        pytest.param(["service", "show", "web"], [f"at {SECOND} down, 0 serving"], id="the service"),
    ],
)
def test_what_is_up_for_some_vips_is_shown_with_each(
    run: Run, lacking: str, command: list[str], lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(*command)

    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line not in shown] == []


@pytest.mark.parametrize(("admin", "code"), [("enable", 1), ("maintenance", 0)])
def test_status_tells_that_a_vip_is_lacking(
    run: Run, lacking: str, admin: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run("backend", admin, "web/web1")

    assert run("status") == code
    assert f"{SECOND}: the server has lost the VIP" in capsys.readouterr().out


def test_status_shows_what_is_wrong(
    run: Run, director: FakeDirector, capsys: pytest.CaptureFixture[str]
) -> None:
    director.down["web", "web1"] = "connection refused"
    director.problems = ("the map is full",)

    run("status")

    shown = capsys.readouterr().out
    for part in (
        "NOT ready",
        "the map is full",
        "eth0 (native)",
        LISTENER,
        WEB1,
        "down",
        "connection refused",
    ):
        assert part in shown


def test_a_service_is_added_changed_and_removed(answered: Callable[..., Any], run: Run) -> None:
    options = ["--scheduler", "mh", "--check", "http:/healthz", "--interval", "5s", "--on-down", "drop"]
    added = answered("service", "add", "dns", "--listen", "192.0.2.53:53/udp", *options)
    changed = answered("service", "set", "dns", "--check", "tcp", "--fall", "5")
    without = answered("service", "set", "dns", "--check", "none", "--listen", "192.0.2.53:53/tcp")

    assert (added["scheduler"], added["on_down"]) == ("mh", "drop")
    assert (added["check"]["type"], added["check"]["path"], added["check"]["interval"]) == (
        "http",
        "/healthz",
        "5s",
    )
    assert (changed["check"]["type"], changed["check"]["interval"], changed["check"]["fall"]) == (
        "tcp",
        "5s",
        5,
    )
    assert (without["check"], without["listeners"]) == (None, ["192.0.2.53:53/tcp"])
    assert run("service", "remove", "dns") == 0
    assert run("service", "show", "dns") == 2


def test_what_clients_show_is_shown(
    answered: Callable[..., Any], run: Run, director: FakeDirector, capsys: pytest.CaptureFixture[str]
) -> None:
    listen = ("--listen", "192.0.2.53:443/tcp")
    added = answered("service", "add", "h2", *listen, "--passive", "eject")
    answered("backend", "add", "h2/web1", WEB1)
    times = (HandshakeTimes(at_most=0.000262144, count=98), HandshakeTimes(at_most=1.073741824, count=2))
    director.plane.watched_packets["h2", "web1"] = PassiveCounts(
        syns=1009,
        retransmissions=4,
        retransmitted=2,
        handshakes=100,
        resets=1,
        unanswered=5,
        idle=3,
        times=times,
    )

    run("service", "show", "h2")
    run("backend", "show", "h2/web1")

    shown = capsys.readouterr().out
    assert added["passive"]["eject"] is True
    for part in (
        "suspects are ejected, for 30s, 50% of the backends at most",
        "normal: no connections lately",
        "1,009, of which 2 sent again, 4 times",
        "half within 0.26 ms, 99 % within 1.1 s",
        "1 reset by clients, 5 never answered, 3 silent until their time-out",
    ):
        assert part in shown
    assert answered("service", "set", "h2", "--passive", "show")["passive"]["eject"] is False
    assert answered("service", "set", "h2", "--passive", "none")["passive"] is None
    assert run("service", "set", "h2", "--passive", "perhaps") == 2


def test_quic_ids_are_given_and_shown(
    answered: Callable[..., Any], run: Run, director: FakeDirector, capsys: pytest.CaptureFixture[str]
) -> None:
    listen = ("--listen", "192.0.2.53:443/udp")
    added = answered("service", "add", "h3", *listen, "--quic", "quic-lb", "--quic-length", "2")
    changed = answered("service", "set", "h3", "--quic-config-id", "3")
    given = answered("backend", "add", "h3/web1", WEB1, "--quic-id", "beef")
    other = answered("backend", "set", "h3/web1", "--quic-id", "abcd")
    director.plane.cid_packets["h3"] = CidPackets(named=7, unknown=2)

    run("service", "show", "h3")
    run("backend", "show", "h3/web1")

    shown = capsys.readouterr().out
    assert (added["quic"]["cids"], added["quic"]["length"], changed["quic"]["config_id"]) == ("quic-lb", 2, 3)
    assert (given["quic_id"], other["quic_id"]) == ("beef", "abcd")
    for part in ("quic-lb, length 2, config_id 3", "7 named, 2 unknown, 0 down", "abcd"):
        assert part in shown
    without = answered(
        "service", "add", "dns", "--listen", "192.0.2.53:53/udp", "--quic", "offset", "--quic-offset", "3"
    )
    assert without["quic"]["offset"] == 3
    assert answered("service", "set", "dns", "--quic", "none")["quic"] is None


def test_a_backend_is_added_and_changed(answered: Callable[..., Any]) -> None:
    added = answered("backend", "add", "web/web2", WEB2, "--weight", "0")
    changed = answered("backend", "set", "web/web2", "--weight", "7")

    assert (added["address"], added["weight"], changed["weight"]) == (WEB2, 0, 7)


@pytest.mark.parametrize(
    ("verb", "admin"), [("drain", "drain"), ("maintenance", "maintenance"), ("enable", "enabled")]
)
def test_admin_state_is_set(answered: Callable[..., Any], verb: str, admin: str) -> None:
    assert answered("backend", verb, "web/web1", "--reason", "new disk")["admin"] == admin


def test_drain_waits_until_drained(answered: Callable[..., Any]) -> None:
    assert answered("backend", "drain", "web/web1", "--wait")["operational"] == "drained"


def test_drain_times_out_at_its_deadline(
    run: Run, director: FakeDirector, capsys: pytest.CaptureFixture[str]
) -> None:
    director.busy["web", "web1"] = 2

    assert run("backend", "drain", "web/web1", "--wait", "--deadline", "200ms") == 5

    assert "2 connections" in capsys.readouterr().err
    assert director.backend("web", "web1").admin == "drain"


def test_drain_cuts_at_its_deadline(answered: Callable[..., Any], director: FakeDirector) -> None:
    director.busy["web", "web1"] = 2

    view = answered("backend", "drain", "web/web1", "--wait", "--deadline", "200ms", "--on-deadline", "cut")

    assert (view["admin"], view["connections"]["active"]) == ("maintenance", 0)


@pytest.mark.parametrize(
    ("options", "busy", "code"),
    [
        ([], 0, 0),
        ([], 1, 4),
        (["--force"], 1, 0),
        (["--drain", "100ms"], 1, 5),
        (["--drain", "60s"], 0, 0),
        (["--drain", "60s", "--force"], 0, 2),
        (["--drain", "soon"], 0, 2),
    ],
    ids=["idle", "busy", "forced", "still busy", "drained", "both", "no duration"],
)
def test_remove(run: Run, director: FakeDirector, options: list[str], busy: int, code: int) -> None:
    director.busy["web", "web1"] = busy

    assert run("backend", "remove", "web/web1", *options) == code


def test_connections_are_filtered(answered: Callable[..., Any], director: FakeDirector) -> None:
    director.busy["web", "web1"] = 3

    found = answered(
        "connections", "--service", "web", "--backend", "web1", "--client", CLIENT, "--limit", "2"
    )

    assert len(found["items"]) == 2


@pytest.mark.parametrize(
    "kind", [errors.NotFoundError, errors.ConflictError, errors.NotAllowedError, errors.BccMissingError]
)
def test_an_error_is_one_paragraph_and_an_exit_code(
    run: Run, director: FakeDirector, capsys: pytest.CaptureFixture[str], kind: type[errors.DirectorError]
) -> None:
    director.broken = kind("the thing and the remedy")

    code = run("service", "list")

    shown = capsys.readouterr()
    assert (code, shown.out, shown.err) == (kind.exit_code, "", "xdpdirector: the thing and the remedy\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "frobnicate"),
        (["status", "-o", "xml"], "xml"),
        (["backend", "drain", "web1"], "SERVICE/BACKEND"),
        (["backend", "show", "a/b/c"], "SERVICE/BACKEND"),
        (["backend", "set", "web/web1"], "--weight"),
        (["backend", "add", "web/web2", "here"], "here"),
        (["service", "add", "x"], "--listen"),
        (["service", "add", "x", "--listen", "192.0.2.10:99999/tcp"], "99999"),
        (["service", "add", "x", "--listen", LISTENER, "--scheduler", "best"], "unknown scheduler"),
        (["service", "set", "web"], "what to change"),
        (["service", "set", "web", "--check", "smoke:1"], "smoke:1"),
        (["service", "set", "web", "--check", "none", "--rise", "1"], "none"),
        (["service", "show", "nope"], "nope"),
        (["-i", "No Name", "version"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_named(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code = run(*arguments)

    assert code == (0 if "version" in arguments else 2)
    assert said in capsys.readouterr().err


def test_a_listener_of_another_service_is_a_conflict(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    code = run("service", "add", "web", "--listen", "192.0.2.99:80/tcp")

    assert code == 4
    assert "'web'" in capsys.readouterr().err


def test_an_unknown_instance_is_unreachable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDPDIRECTOR_INSTANCE", "no-such-instance")

    assert main(["status"]) == 3
    assert main(["-i", "Not A Name", "status"]) == 2

    shown = capsys.readouterr().err
    assert "xdpdirector -i no-such-instance run" in shown
    assert "'Not A Name'" in shown


def test_tables_are_whole_and_plain_without_a_terminal(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run("service", "add", LONG, "--listen", "[2001:db8:1111:2222:3333:4444:5555:6666]:65535/udp")
    run("backend", "add", f"{LONG}/{LONG}", "2001:db8:1111:2222:3333:4444:5555:7777")
    capsys.readouterr()

    run("status")
    run("backend", "list", LONG)

    shown = capsys.readouterr().out
    assert shown.count(LONG) == 4
    assert "2001:db8:1111:2222:3333:4444:5555:7777" in shown
    assert "\x1b" not in shown
    assert "…" not in shown
    assert all(line == line.rstrip() for line in shown.splitlines())


@pytest.mark.parametrize(
    "arguments", [["status"], ["backend", "list"], ["service", "show", "web"]], ids=" ".join
)
def test_tables_name_the_tunnel_to_a_backend(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    run("backend", "add", "web/far", "203.0.113.21", "--forward", "ipip")
    capsys.readouterr()

    run(*arguments)

    lines = capsys.readouterr().out.splitlines()
    [far] = [line for line in lines if "203.0.113.21" in line]
    [near] = [line for line in lines if "web1" in line]
    assert "203.0.113.21 by ipip " in far
    assert " by " not in near


@pytest.mark.parametrize(
    "arguments",
    [["service", "list"], ["service", "show", "web"], ["backend", "list"], ["backend", "show", "web/web1"],
     ["connections"], ["stats"]],
    ids=" ".join,
)  # fmt: skip
def test_tables_show_the_numbers(
    run: Run, director: FakeDirector, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    director.busy["web", "web1"] = 1

    assert run(*arguments) == 0

    shown = capsys.readouterr().out
    assert ("web/web1" in shown) or ("1,500" in shown)
    assert "None" not in shown


@pytest.mark.parametrize(
    "command",
    ["status", "connections", "stats", "version", "run", "load", "unload",
     *(f"service {verb}" for verb in ("list", "show", "add", "set", "remove")),
     *(f"backend {verb}" for verb in
       ("list", "show", "add", "set", "drain", "enable", "maintenance", "remove"))],
)  # fmt: skip
def test_each_command_helps_with_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([*command.split(), "--help"]) == 0

    example = capsys.readouterr().out.strip().splitlines()[-1].strip()
    assert example.startswith("Example: xdpdirector ")
    assert f" {command}" in example
