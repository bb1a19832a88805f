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
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn, Protocol, TypeVar

import typer
from rich.console import Console

from xdpdirector.errors import ConflictError, InvalidRequestError
from xdpdirector.lab import network
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.demo import CALM, QUICK, Options, run_demo
from xdpdirector.lab.host import enter
from xdpdirector.lab.lab import Lab, all_names, take_down
from xdpdirector.lab.record import Record
from xdpdirector.lab.status import show_status
from xdpdirector.lab.summary import show

REPORT_WIDTH, SERVICES_WIDTH = 110, 150
app = typer.Typer(
    help="A LAN in network namespaces: clients, a director, real servers.", no_args_is_help=True
)
Name = Annotated[str, typer.Option("--name", help="The lab's name: several may be up at once.")]


@app.command()
def up(
    name: Name = "lab",
    backends: Annotated[int, typer.Option(help="How many backends.")] = 3,
    two_arm: Annotated[bool, typer.Option("--two-arm", help="Give the backends a second network.")] = False,
    with_director: Annotated[bool, typer.Option("--with-director", help="Start a director too.")] = False,
    scheduler: Annotated[str, typer.Option(help="Of that director's service: wlc or mh.")] = "wlc",
) -> None:
    """Build a lab with nginx on every backend; it stays until `lab down`."""
    lab = Lab(name, backends=backends, two_arm=two_arm)
    if Record(name).topology == lab.topology and len(network.namespaces(name)) == len(lab.topology.nodes):
        _say(f"lab '{name}' is up already")
    else:
        _build(lab, with_director, scheduler)
    show_status(lab.topology, Console())


def _build(lab: Lab, with_director: bool, scheduler: str) -> None:
    """All of it or nothing."""
    lab.up(stay=True)
    try:
        for host in lab.backends:
            lab.nginx(host.name)
        if with_director:
            lab.director(web_configuration(lab.topology.backend_nodes, scheduler=scheduler)).wait_serving()
    except BaseException:
        lab.down()
        raise


def _say(text: str) -> None:
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
    shell = os.environ.get("SHELL", "/bin/sh")
    wanted = command[1:] if command and command[0] == "--" else command
    line = enter(node, *(wanted or [shell]))
    os.environ["XDPDIRECTOR_INSTANCE"] = lab.topology.instance.name
    os.execvp(line[0], line)


@app.command()
def down(
    name: Name = "lab",
    every: Annotated[bool, typer.Option("--all", help="Every lab on this machine.")] = False,
) -> None:
    """End what runs in a lab and remove it; also what a crash left."""
    held: ConflictError | None = None
    for one in all_names() if every else [name]:
        try:
            take_down(one)
            _say(f"lab '{one}' is down")
        except ConflictError as error:
            held = error
    if held:
        raise held


@app.command()
def demo(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    scheduler: Annotated[str, typer.Option(help="wlc or mh.")] = "wlc",
    rate: Annotated[float, typer.Option(min=20, max=2000, help="New connections a second.")] = 200.0,
    quick: Annotated[bool, typer.Option("--quick", help="Watch each step for a shorter time.")] = False,
    name: Name = "demo",
) -> None:
    """Real clients and servers, and a director that is put through its paces; status 1 if it disappoints."""
    if scheduler not in ("wlc", "mh"):
        raise InvalidRequestError(f"the demo knows no scheduler '{scheduler}': use wlc or mh")
    _end_like_ctrl_c()
    options = Options(name=name, scheduler=scheduler, rate=rate, pace=QUICK if quick else CALM)
    _tell(run_demo(options, _say), show, as_json=as_json, width=REPORT_WIDTH)


@app.command()
def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="Half a minute; without UDP, servers and daemon.")
    ] = False,
    document: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Write everything as JSON; - instead of tables."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the cost by number of flows.")
    ] = None,
    name: Name = "bench",
) -> None:
    """What a packet costs, beside the least it could; what comes through; status 1 if a target is missed."""
    from xdpdirector.lab.bench.command import bench as run_command

    _end_like_ctrl_c()
    raise typer.Exit(0 if run_command(name, quick, document, plot, _say) else 1)


@app.command()
def services(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[SERVICE]...", help="Only these.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    scheduler: Annotated[str, typer.Option(help="Of all services: wlc, mh ...")] = "wlc",
    name: Name = "services",
) -> None:
    """Real servers of many kinds and their usual clients, through drain and loss; status 1 if one disappoints."""
    from xdpdirector.lab.services.command import Options as Wanted
    from xdpdirector.lab.services.command import run_services
    from xdpdirector.lab.services.show import show as show_services

    _end_like_ctrl_c()
    result = run_services(Wanted(names or (), scheduler, name), _say)
    _tell(result, show_services, as_json=as_json, width=SERVICES_WIDTH)


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
    name: Name = "replay",
) -> None:
    """Play a capture from the client's side, and compare what each backend gets; status 1 if that is wrong."""
    from xdpdirector.lab.replaying.command import Options as Wanted
    from xdpdirector.lab.replaying.command import run_replay
    from xdpdirector.lab.replaying.score import Bounds
    from xdpdirector.lab.replaying.show import show as show_outcome

    _end_like_ctrl_c()
    outcome = run_replay(Wanted(capture, config, expect, Bounds(frames, pause, seconds), name), _say)
    _tell(outcome, show_outcome, as_json=as_json, width=REPORT_WIDTH)


@app.command(context_settings={"ignore_unknown_options": True})
def vm(
    tests: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PYTEST ARGUMENT]...", help="Instead of the usual choice.", show_default=False
        ),
    ] = None,
    shell: Annotated[bool, typer.Option("--shell", help="A shell in the guest instead of tests.")] = False,
) -> None:
    """Run tests in an emulated machine with Debian's own kernel, from a checkout; status 1 if one fails."""
    from xdpdirector.lab.vm.session import TESTS, Options, run_session

    _end_like_ctrl_c()
    course = run_session(Options(Path.cwd(), tests or TESTS, shell=shell), _say)
    _say(str(course))
    raise typer.Exit(0 if course.passed else 1)


@app.command()
def package(
    trial: Annotated[
        bool, typer.Option("--try", help="Install, use, upgrade and purge them on an emulated machine.")
    ] = False,
) -> None:
    """Build the Debian packages from a checkout, and let lintian judge them."""
    from xdpdirector.lab.package.command import package as build_packages

    _end_like_ctrl_c()
    build_packages(Path.cwd(), _say, trial=trial)


@app.command()
def vagrant(
    backends: Annotated[int, typer.Option(min=2, max=3, help="How many backends.")] = 3,
    pair: Annotated[bool, typer.Option("--pair", help="Instead: two directors, one takes over.")] = False,
) -> None:
    """Bring up the machines of vagrant/ in emulation, put them through their paces, destroy them."""
    from xdpdirector.lab.vagrant.command import Options, outside

    _end_like_ctrl_c()
    raise typer.Exit(outside(Options(Path.cwd(), backends, pair), _say))


@app.command(name="versus-lvs")
def versus_lvs(
    quick: Annotated[bool, typer.Option("--quick", help="Few flows, one round.")] = False,
    document: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Write everything as JSON; - instead of tables."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the instructions by number of flows.")
    ] = None,
) -> None:
    """Instructions for each packet, beside kernel IPVS in an emulated machine; status 1 if the target is missed."""
    from xdpdirector.lab.versus.command import versus

    _end_like_ctrl_c()
    raise typer.Exit(0 if versus(Path.cwd(), quick, document, plot, _say) else 1)


class _Outcome(Protocol):
    @property
    def passed(self) -> bool: ...

    def document(self) -> dict[str, Any]: ...


_Result = TypeVar("_Result", bound=_Outcome)


def _tell(
    outcome: _Result, show: Callable[[_Result, Console], None], *, as_json: bool, width: int
) -> NoReturn:
    """As a document or for people, and end with its verdict; `width`: where no terminal says otherwise."""
    if as_json:
        json.dump(outcome.document(), sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        console = Console()
        show(outcome, console if console.is_terminal else Console(width=width))
    raise typer.Exit(0 if outcome.passed else 1)


def _end_like_ctrl_c() -> None:
    """SIGTERM and SIGHUP take the lab down too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, leave)
