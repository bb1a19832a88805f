# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector lab ...`: build a lab, look at it, enter it, remove it; the demo and the bench.

Errors of the tree are left to the caller's command line, which knows how to show them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn, Protocol, TypeVar

import typer
from rich.console import Console

from xdpdirector.errors import InvalidRequestError, TimedOutError
from xdpdirector.lab import dashboard, network
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.console import show
from xdpdirector.lab.demo import CALM, QUICK, Options, run_demo
from xdpdirector.lab.lab import Lab, all_names, kept_by, take_down
from xdpdirector.lab.lab_state import Record
from xdpdirector.lab.lessons import MODULES
from xdpdirector.lab.report import BUSY
from xdpdirector.lab.shell import inhabitant, program, run_shell
from xdpdirector.lab.status import show_status
from xdpdirector.lab.topology import MAX_DIRECTORS

LESSONS = len(MODULES)
REPORT_WIDTH, SERVICES_WIDTH = 110, 150
app = typer.Typer(
    help="A LAN in network namespaces: clients, a director, real servers.", no_args_is_help=True
)
Name = Annotated[str, typer.Option("--name", help="The lab's name: several may be up at once.")]
OwnName = Annotated[
    str | None,
    typer.Option("--name", help="The lab's name, instead of the verb's, with a number if that is taken."),
]


@app.command()
def up(
    name: Name = "lab",
    backends: Annotated[int, typer.Option(help="How many backends.")] = 3,
    two_arm: Annotated[bool, typer.Option("--two-arm", help="Give the backends a second network.")] = False,
    directors: Annotated[int, typer.Option(min=1, max=MAX_DIRECTORS, help="How many hosts for them.")] = 1,
    router: Annotated[
        bool, typer.Option("--router", help="Put a router between client and VIPs, for BIRD.")
    ] = False,
    with_director: Annotated[bool, typer.Option("--with-director", help="Start a director too.")] = False,
    scheduler: Annotated[str, typer.Option(help="Of that director's service: wlc or mh.")] = "wlc",
) -> None:
    """Build a lab with nginx on every backend; it stays until `lab down`."""
    lab = Lab(name, backends=backends, two_arm=two_arm, directors=directors, router=router)
    if Record(name).topology == lab.topology and len(network.namespaces(name)) == len(lab.topology.nodes):
        say(f"lab '{name}' is up already")
    else:
        _build(lab, with_director, scheduler)
    show_status(lab.topology, Console())


def _build(lab: Lab, with_director: bool, scheduler: str) -> None:
    """All of it or nothing."""
    lab.up(stay=True)
    try:
        _serve(lab, with_director=with_director, scheduler=scheduler)
    except BaseException:
        lab.down()
        raise


def _serve(lab: Lab, *, with_director: bool = False, scheduler: str = "wlc") -> None:
    for host in lab.backends:
        lab.nginx(host.name)
    if with_director:
        lab.director(web_configuration(lab.topology.backend_nodes, scheduler=scheduler)).wait_serving()


def say(text: str) -> None:
    Console(stderr=True).print(text, highlight=False, markup=False, soft_wrap=True)


@app.command()
def status(name: Annotated[str | None, typer.Option("--name", help="One lab only.")] = None) -> None:
    """Show what is up: the topology, what runs where, how to enter."""
    names = [name] if name else all_names()
    if not names:
        Console().print("no lab is up: `xdpdirector lab up` builds one.")
    for one in names:
        topology = Record(one).topology
        if topology is None:
            Console().print(f"lab '{one}' is half built: `xdpdirector lab down --name {one}` removes it.")
        else:
            show_status(topology, Console())


@app.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
def execute(
    host: Annotated[str, typer.Argument(help="client, director, switch, backend1 ...")],
    command: Annotated[list[str] | None, typer.Argument(help="What to run; a shell if nothing.")] = None,
    name: Name = "lab",
) -> None:
    """Run a command on a host of a lab, in the terminal; its exit status becomes ours."""
    lab = Lab.standing(name)
    node = lab.topology.node(host)
    network.check_machine()
    wanted = command[1:] if command and command[0] == "--" else command
    line, environment = inhabitant(lab, node, wanted)
    os.execvpe(line[0], line, environment)


@app.command()
def shell(
    host: Annotated[str, typer.Argument(help="client, director, switch, backend1 ...")] = "client",
    name: OwnName = None,
) -> None:
    """Build a lab with a director that forwards, up as long as a shell on one of its hosts lives."""
    end_like_ctrl_c()
    wanted = Lab(name or "shell", numbered=name is None)
    wanted.topology.node(host)
    with wanted as lab:
        _serve(lab)
        director = lab.director(web_configuration(lab.topology.backend_nodes))
        director.wait_serving()
        show_status(lab.topology, Console())
        say(
            f"a shell in {host}; on the others, from another terminal: sudo {program()} lab exec --name "
            f"{lab.topology.name} director; the lab goes when you leave (exit)"
        )
        with dashboard.shown(director, say):
            status = run_shell(lab, host)
    say(f"lab '{lab.topology.name}' is down")
    raise typer.Exit(status)


@app.command()
def down(
    name: Name = "lab",
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Every lab that this checkout built to stay, and what dead processes left; a lab that a living "
            "process holds, or another checkout built, stays.",
        ),
    ] = False,
) -> None:
    """End what runs in a lab and remove it; also what a crash left."""
    for one in all_names() if every else [name]:
        if every and (keeper := kept_by(one)):
            say(f"lab '{one}' stays: it belongs to {keeper}")
            continue
        take_down(one)
        say(f"lab '{one}' is down")


@app.command()
def demo(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    scheduler: Annotated[str, typer.Option(help="wlc or mh.")] = "wlc",
    rate: Annotated[float, typer.Option(min=20, max=2000, help="New connections a second.")] = 200.0,
    quick: Annotated[bool, typer.Option("--quick", help="Watch each step for a shorter time.")] = False,
    name: OwnName = None,
) -> None:
    """Real clients and servers, and a director that is put through its paces; status 1 if it disappoints.

    Status 5 if this machine was too busy to judge it.
    """
    if scheduler not in ("wlc", "mh"):
        raise InvalidRequestError(f"the demo knows no scheduler '{scheduler}': use wlc or mh")
    end_like_ctrl_c()
    options = Options(
        name or "demo", numbered=name is None, scheduler=scheduler, rate=rate, pace=QUICK if quick else CALM
    )
    report = run_demo(options, say)
    failed = TimedOutError.exit_code if report.verdict == BUSY else 1
    tell(report, show, as_json=as_json, width=REPORT_WIDTH, failed=failed)


@app.command()
def pair(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    scheduler: Annotated[str, typer.Option(help="wlc or mh.")] = "wlc",
    rate: Annotated[float, typer.Option(min=20, max=2000, help="New connections a second.")] = 200.0,
    downloads: Annotated[int, typer.Option(min=1, max=5000, help="Long downloads at once.")] = 300,
    cycles: Annotated[int, typer.Option(min=1, max=100, help="How often all of it is done.")] = 1,
    minutes: Annotated[float, typer.Option(min=1, help="No cycle begins after so many.")] = 50.0,
    upgrades: Annotated[bool, typer.Option(help="Restart and upgrade the directors, too.")] = True,
    name: OwnName = None,
) -> None:
    """Two directors under real clients: one dies, returns, hands over, is upgraded; status 1 if a client suffers.

    Status 5 if this machine was too busy to judge it.
    """
    from xdpdirector.lab.pair.pair import PairOptions, run_pair
    from xdpdirector.lab.pair.report import show as show_pair

    end_like_ctrl_c()
    options = PairOptions(
        name or "pair",
        numbered=name is None,
        scheduler=scheduler,
        rate=rate,
        downloads=downloads,
        cycles=cycles,
        minutes=minutes,
        upgrades=upgrades,
    )
    report = run_pair(options, say)
    failed = TimedOutError.exit_code if report.verdict == BUSY else 1
    tell(report, show_pair, as_json=as_json, width=REPORT_WIDTH, failed=failed)


@app.command()
def services(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Only these.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    scheduler: Annotated[str, typer.Option(help="Of all services: wlc, mh ...")] = "wlc",
    name: OwnName = None,
) -> None:
    """Real servers of many kinds and their usual clients, through drain and loss; status 1 if one disappoints."""
    from xdpdirector.lab.services.command import Options as Wanted
    from xdpdirector.lab.services.command import run_services
    from xdpdirector.lab.services.show import show as show_services

    end_like_ctrl_c()
    result = run_services(Wanted(names or (), scheduler, name or "services", name is None), say)
    tell(result, show_services, as_json=as_json, width=SERVICES_WIDTH)


@app.command()
def replay(
    capture: Annotated[Path, typer.Argument(help="pcap or pcapng.", show_default=False)],
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="Its backends have the addresses of a lab's: 192.0.2.21 ...",
        ),
    ] = None,
    expect: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `xdpdirector replay --record` wrote.")
    ] = None,
    frames: Annotated[int, typer.Option(min=1, max=100_000, help="Play no more than so many.")] = 10_000,
    pause: Annotated[
        float, typer.Option(min=0, help="Let a pause last no longer than so many seconds.")
    ] = 0.2,
    seconds: Annotated[float, typer.Option(min=0, max=3600, help="Play no longer than that.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    name: OwnName = None,
) -> None:
    """Play a capture from the client's side, and compare what each backend gets; status 1 if that is wrong."""
    from xdpdirector.lab.capture_test.command import Options as Wanted
    from xdpdirector.lab.capture_test.command import run_replay
    from xdpdirector.lab.capture_test.schedule import Bounds
    from xdpdirector.lab.capture_test.show import show as show_outcome

    end_like_ctrl_c()
    bounds = Bounds(frames, pause, seconds)
    outcome = run_replay(Wanted(capture, config, expect, bounds, name or "replay", name is None), say)
    tell(outcome, show_outcome, as_json=as_json, width=REPORT_WIDTH)


class Step(StrEnum):
    BUILD, CHECK, HINT = "build", "check", "hint"


@app.command()
def lesson(
    number: Annotated[int, typer.Argument(min=1, max=LESSONS, help="Which one.", show_default=False)],
    step: Annotated[
        Step,
        typer.Argument(help="Build its lab anew; check whether the exercise is solved; give a hint."),
    ] = Step.BUILD,
) -> None:
    """Build the lab of a lesson of the course, or `check` in it what is still missing; status 1 if something is."""
    from xdpdirector.lab.lessons import command

    def show(text: str) -> None:
        Console().print(text, highlight=False, markup=False, soft_wrap=True)

    if step is Step.BUILD:
        command.build(number, show)
        return
    solved = command.check(number, show) if step is Step.CHECK else command.hint(number, show)
    raise typer.Exit(0 if solved else 1)


class _Outcome(Protocol):
    @property
    def passed(self) -> bool: ...

    def document(self) -> dict[str, Any]: ...


_Result = TypeVar("_Result", bound=_Outcome)


def tell(
    outcome: _Result, show: Callable[[_Result, Console], None], *, as_json: bool, width: int, failed: int = 1
) -> NoReturn:
    """As a document or for people, and end with its verdict; `width`: where no terminal says otherwise."""
    if as_json:
        json.dump(outcome.document(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        console = Console()
        show(outcome, console if console.is_terminal else Console(width=width))
    raise typer.Exit(0 if outcome.passed else failed)


def end_like_ctrl_c() -> None:
    """SIGTERM and SIGHUP take the lab down too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, leave)
