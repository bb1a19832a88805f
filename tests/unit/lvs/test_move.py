# SPDX-License-Identifier: Apache-2.0
"""The guided move, from an LVS director that a test writes down, to a director without packets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.cli import lvs
from xdpdirector.cli.app import app
from xdpdirector.client import Client
from xdpdirector.errors import DirectorError, UnreachableError
from xdpdirector.lvs.move import Move, Steps, active
from xdpdirector.model import ServiceSpec
from xdpdirector.model.lvs import LvsSpec
from xdpdirector.model.status import Traffic
from xdpdirector.state.change_request import Intent
from xdpdirector.sync.ipvs.status import LvsIncoming, LvsSyncView
from xdpdirector.sync.status import FleetView, NoSync

VIP, OTHER = "192.0.2.10", "192.0.2.11"
RULES = f"""\
-A -t {VIP}:80 -s wlc
-a -t {VIP}:80 -r 192.0.2.21:80 -g -w 1
-a -t {VIP}:80 -r 192.0.2.22:80 -g -w 1
-A -f 1 -s rr -p 600
-a -f 1 -r 192.0.2.21:0 -g -w 1
"""
LISTING = f"""\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  {VIP}:80 wlc
  -> 192.0.2.21:80                Route   1      60         4
  -> 192.0.2.22:80                Route   1      40         5
FWM  1 rr persistent 600
  -> 192.0.2.21:0                 Route   1      7          0
"""
MARKS = {"1": [f"{OTHER}:443/tcp"]}
STEPS = Steps(["release {vip}"], ["take {vip}", "announce {vip}"], ["untake {vip}"], ["return {vip}"])


class Sync(NoSync):
    """A backup that has heard something just now, unless `incoming` says otherwise."""

    incoming: LvsIncoming | None = LvsIncoming(heard=1.0)

    def view(self) -> FleetView:
        lvs_view = LvsSyncView(
            role="backup", interface="eth0", syncid=0, group="224.0.0.81:8848", incoming=self.incoming
        )
        return FleetView(lvs=lvs_view)


class Lvs:
    """Runs commands as an LVS director would; `failing` is one that fails."""

    def __init__(self) -> None:
        self.commands: list[str] = []
        self.failing = ""

    def __call__(self, command: str) -> str:
        if command == self.failing:
            raise DirectorError(f"'{command}' ended with status 1: no")
        if "ipvsadm" in command:
            return RULES if "-S" in command else LISTING
        self.commands.append(command)
        return ""


class Moving(FakeDirector):
    """Its services' counters rise with each look when `arrives`."""

    arrives = True

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.lvs = LvsSpec(fwmarks=MARKS)
        self.sync = Sync()

    def fleet_view(self) -> FleetView:
        return self.sync.view()

    def service(self, name: str) -> Any:
        self.looks += self.arrives
        return super().service(name).model_copy(update={"traffic": Traffic(packets=self.looks)})


@pytest.fixture
def director() -> Moving:
    made = Moving()
    for name, listener, addresses in (
        ("web", f"{VIP}:80/tcp", ("192.0.2.21", "192.0.2.22")),
        ("tls", f"{OTHER}:443/tcp", ("192.0.2.21",)),
    ):
        backends = {f"b{number}": {"address": each} for number, each in enumerate(addresses)}
        spec = ServiceSpec.model_validate({"listeners": [listener], "backends": backends})
        asyncio.run(made.create_service(name, spec, intent=Intent("test")))
    made.busy = {("web", "b0"): 55, ("web", "b1"): 40, ("tls", "b0"): 7}
    return made


@pytest.fixture
def server(director: Moving, tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(director, tmp_path / "api.sock") as made:
        yield made


@pytest.fixture
def origin() -> Lvs:
    return Lvs()


@pytest.fixture
def move(server: ApiServer, origin: Lvs) -> Move:
    clock = iter(range(1 << 20))
    return Move(server.client, origin, "ssh lvs1", clock=lambda: next(clock), sleep=lambda _: None)


def test_a_plan_says_what_is_there_and_here(move: Move) -> None:
    plan = move.plan()

    assert [(each.vip, each.services, each.there, each.here) for each in plan.vips] == [
        (VIP, ["web"], 100, 95),
        (OTHER, ["tls"], 7, 7),
    ]
    assert [each.why_not(plan.sync, 0.95) for each in plan.vips] == ["", ""]
    assert plan.vips[0].why_not(plan.sync, 0.96) == "95 of 100 connections are here, and 96% shall be"
    assert (plan.left, plan.sync) == ([], "")


def test_what_is_missing_here_is_said(move: Move, director: Moving) -> None:
    asyncio.run(director.delete_backend("web", "b1", intent=Intent("test"), force=True))
    asyncio.run(director.delete_service("tls", intent=Intent("test")))
    plan = move.plan()

    assert [each.missing for each in plan.vips] == [
        ["service 'web' has no backend 192.0.2.22"],
        [f"no service here listens on {OTHER}:443/tcp"],
    ]


def test_a_backend_that_is_down_here_is_said(move: Move, director: Moving) -> None:
    director.down["web", "b0"] = "Connection refused"

    assert move.plan().vips[0].missing == ["backend web/b0 takes no connections: Connection refused"]


@pytest.mark.parametrize(
    ("incoming", "why"),
    [
        (None, "set lvs.sync with the role backup"),
        (LvsIncoming(why="there is no interface eth0"), "there is no interface eth0"),
        (LvsIncoming(), "LVS says nothing"),
        (LvsIncoming(heard=100.0), "LVS says nothing"),
    ],
)
def test_without_connections_of_lvs_nothing_moves(
    move: Move, director: Moving, incoming: LvsIncoming | None, why: str
) -> None:
    director.sync.incoming = incoming  # type: ignore[attr-defined]
    plan = move.plan()

    assert all(why in each.why_not(plan.sync, 0.95) for each in plan.vips)


def test_it_waits_until_connections_are_here(move: Move, director: Moving) -> None:
    director.busy["web", "b0"] = 0
    looks = []

    def tell(plan: Any) -> None:
        looks.append(plan.vips[0].here)
        director.busy["web", "b0"] += 20

    plan = move.wait([VIP], 0.95, 600, tell)

    assert looks == [40, 60, 80, 100]
    assert plan.vips[0].why_not(plan.sync, 0.95) == ""


def test_it_waits_no_longer_than_it_is_told(move: Move, director: Moving) -> None:
    director.busy["web", "b0"] = 0

    assert move.wait([VIP], 0.95, 5, lambda _: None).vips[0].here == 40


def test_a_vip_moves(move: Move, origin: Lvs) -> None:
    [vip, _] = move.plan().vips

    assert move.move(vip, STEPS, 15) == ""
    assert origin.commands == [f"release {VIP}", f"take {VIP}", f"announce {VIP}"]


def test_a_vip_without_packets_goes_back(move: Move, director: Moving, origin: Lvs) -> None:
    [vip, _] = move.plan().vips
    director.arrives = False

    assert move.move(vip, STEPS, 15) == "no packet has come here within 15 s"
    assert origin.commands[3:] == [f"untake {VIP}", f"return {VIP}"]


def test_a_command_that_fails_is_the_way_back(move: Move, origin: Lvs) -> None:
    [vip, _] = move.plan().vips
    origin.failing = f"take {VIP}"

    assert move.move(vip, STEPS, 15) == f"'take {VIP}' ended with status 1: no"
    assert origin.commands == [f"release {VIP}", f"untake {VIP}", f"return {VIP}"]


def test_a_way_back_that_fails_is_said_and_gone_to_its_end(move: Move, origin: Lvs, director: Moving) -> None:
    [vip, _] = move.plan().vips
    director.arrives, origin.failing = False, f"untake {VIP}"

    assert move.move(vip, STEPS, 15).endswith(f"on the way back: 'untake {VIP}' ended with status 1: no")
    assert origin.commands[-1] == f"return {VIP}"


class Away:
    """In place of the client: the daemon does not answer `times`."""

    def __init__(self, client: Client, times: int) -> None:
        self._client, self.times = client, times

    def _ask(self) -> None:
        self.times -= 1
        if self.times >= 0:
            raise UnreachableError("the daemon does not answer")

    def pages(self, path: str) -> Any:
        self._ask()
        return self._client.pages(path)

    def get(self, path: str) -> Any:
        self._ask()
        return self._client.get(path)


def test_a_daemon_that_is_busy_is_waited_for(move: Move) -> None:
    move._client = away = Away(move._client, 3)  # type: ignore[assignment]

    plan = move.wait([VIP], 0.95, 60, lambda _: None)

    assert away.times < 0
    assert [each.vip for each in plan.vips] == [VIP, OTHER]


def test_a_daemon_that_stays_away_ends_the_wait(move: Move) -> None:
    move._client = Away(move._client, 1000)  # type: ignore[assignment]

    with pytest.raises(UnreachableError):
        move.wait([VIP], 0.95, 60, lambda _: None)


def test_a_vip_goes_back_when_the_daemon_is_away_after_the_step(move: Move, origin: Lvs) -> None:
    plan, client = move.plan().vips[0], move._client
    taken = origin.__call__

    def take(command: str) -> str:
        if command.startswith("take"):
            move._client = Away(client, 1000)  # type: ignore[assignment]
        return taken(command)

    move._run = take

    assert "the daemon does not answer" in move.move(plan, STEPS, 15)
    assert origin.commands[-2:] == [f"untake {VIP}", f"return {VIP}"]


def test_a_vip_without_traffic_needs_none(move: Move, director: Moving) -> None:
    director.arrives = False
    [vip, _] = move.plan().vips

    assert move.move(replace(vip, there=0), STEPS, 15) == ""


def test_active_connections_of_a_listing() -> None:
    text = (
        LISTING
        + "TCP  [2001:db8::10]:0 rr persistent 300\n  -> [2001:db8::21]:0      Route   1      3          0\n"
    )

    assert active(text, MARKS) == {f"{VIP}:80/tcp": 100, f"{OTHER}:443/tcp": 7, "[2001:db8::10]:*/tcp": 3}


def command(server: ApiServer, monkeypatch: pytest.MonkeyPatch, origin: Lvs, *words: str) -> Any:
    monkeypatch.setattr(lvs, "_run", origin)
    socket = server.client._path
    return CliRunner().invoke(app, ["--socket", str(socket), "lvs", "move", "--from", "ssh lvs1", *words])


SAID = [
    word
    for name, commands in zip(("release", "take", "untake", "return"), STEPS, strict=True)
    for each in commands
    for word in (f"--{name}", each)
]


def test_the_command_moves_and_goes_back(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, origin: Lvs
) -> None:
    done = command(server, monkeypatch, origin, "--go", "--vip", VIP, *SAID)
    assert (done.exit_code, done.output.splitlines()[-1]) == (
        0,
        f"{VIP} is here. The way back: --vip {VIP} --back",
    )
    done = command(server, monkeypatch, origin, "--back", "--vip", VIP, *SAID)
    assert (done.exit_code, done.output) == (0, f"{VIP} is LVS's again\n")
    assert origin.commands[-2:] == [f"untake {VIP}", f"return {VIP}"]


def test_the_way_back_needs_no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, origin: Lvs) -> None:
    """Of a VIP that is named: that the daemon is gone may be why it goes back."""
    monkeypatch.setattr(lvs, "_run", origin)
    words = ["--socket", str(tmp_path / "none.sock"), "lvs", "move", "--from", "ssh lvs1", "--back", *SAID]

    done = CliRunner().invoke(app, [*words, "--vip", VIP])
    assert (done.exit_code, done.output) == (0, f"{VIP} is LVS's again\n")
    assert origin.commands == [f"untake {VIP}", f"return {VIP}"]

    assert isinstance(CliRunner().invoke(app, words).exception, UnreachableError)


def test_the_command_shows_a_plan_and_changes_nothing(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, origin: Lvs
) -> None:
    done = command(server, monkeypatch, origin, "--share", "99")

    assert done.exit_code == 1
    assert "95 of 100 connections are here, and 99% shall be" in done.output
    assert origin.commands == []


@pytest.mark.parametrize(
    ("words", "why"),
    [(["--go"], "need --release"), (["--vip", "192.0.2.99"], "LVS has no VIP 192.0.2.99")],
)
def test_what_the_command_refuses(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch, origin: Lvs, words: list[str], why: str
) -> None:
    done = command(server, monkeypatch, origin, *words)

    assert done.exit_code == 2
    assert why in done.output
