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

from xdpdirector.errors import InvalidRequestError, TimedOutError
from xdpdirector.lab import network
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.console import show
from xdpdirector.lab.demo import CALM, QUICK, Options, run_demo
from xdpdirector.lab.lab import Lab, all_names, kept_by, take_down
from xdpdirector.lab.lab_state import Record
from xdpdirector.lab.report import BUSY
from xdpdirector.lab.shell import inhabitant, program, run_shell
from xdpdirector.lab.status import show_status

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
        _serve(lab, with_director=with_director, scheduler=scheduler)
    except BaseException:
        lab.down()
        raise


def _serve(lab: Lab, *, with_director: bool, scheduler: str = "wlc") -> None:
    for host in lab.backends:
        lab.nginx(host.name)
    if with_director:
        lab.director(web_configuration(lab.topology.backend_nodes, scheduler=scheduler)).wait_serving()


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
    wanted = command[1:] if command and command[0] == "--" else command
    line, environment = inhabitant(lab, node, wanted)
    os.execvpe(line[0], line, environment)


@app.command()
def shell(
    host: Annotated[str, typer.Argument(help="client, director, switch, backend1 ...")] = "client",
    name: OwnName = None,
) -> None:
    """Build a lab with a director that forwards, up as long as a shell on one of its hosts lives."""
    _end_like_ctrl_c()
    wanted = Lab(name or "shell", numbered=name is None)
    wanted.topology.node(host)
    with wanted as lab:
        _serve(lab, with_director=True)
        show_status(lab.topology, Console())
        _say(
            f"a shell in {host}; on the others, from another terminal: sudo {program()} lab exec --name "
            f"{lab.topology.name} director; the lab goes when you leave (exit)"
        )
        status = run_shell(lab, host)
    _say(f"lab '{lab.topology.name}' is down")
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
            _say(f"lab '{one}' stays: it belongs to {keeper}")
            continue
        take_down(one)
        _say(f"lab '{one}' is down")


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
    _end_like_ctrl_c()
    options = Options(
        name or "demo", numbered=name is None, scheduler=scheduler, rate=rate, pace=QUICK if quick else CALM
    )
    report = run_demo(options, _say)
    failed = TimedOutError.exit_code if report.verdict == BUSY else 1
    _tell(report, show, as_json=as_json, width=REPORT_WIDTH, failed=failed)


@app.command()
def pair(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    scheduler: Annotated[str, typer.Option(help="wlc or mh.")] = "wlc",
    rate: Annotated[float, typer.Option(min=20, max=2000, help="New connections a second.")] = 200.0,
    downloads: Annotated[int, typer.Option(min=1, max=5000, help="Long downloads at once.")] = 300,
    cycles: Annotated[int, typer.Option(min=1, max=100, help="How often all of it is done.")] = 1,
    name: OwnName = None,
) -> None:
    """Two directors under real clients: one dies, returns, hands over; status 1 if a client suffers."""
    from xdpdirector.lab.pair.pair import PairOptions, run_pair
    from xdpdirector.lab.pair.report import show as show_pair

    _end_like_ctrl_c()
    options = PairOptions(
        name or "pair",
        numbered=name is None,
        scheduler=scheduler,
        rate=rate,
        downloads=downloads,
        cycles=cycles,
    )
    _tell(run_pair(options, _say), show_pair, as_json=as_json, width=REPORT_WIDTH)


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
    name: OwnName = None,
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
    name: OwnName = None,
) -> None:
    """Real servers of many kinds and their usual clients, through drain and loss; status 1 if one disappoints."""
    from xdpdirector.lab.services.command import Options as Wanted
    from xdpdirector.lab.services.command import run_services
    from xdpdirector.lab.services.show import show as show_services

    _end_like_ctrl_c()
    result = run_services(Wanted(names or (), scheduler, name or "services", name is None), _say)
    _tell(result, show_services, as_json=as_json, width=SERVICES_WIDTH)


@app.command()
def chaos(
    seed: Annotated[int | None, typer.Option(min=0, help="Of a run before; by default another one.")] = None,
    minutes: Annotated[float, typer.Option(min=0.4, max=240, help="How long.")] = 5.0,
    running: Annotated[int, typer.Option(min=0, max=5000, help="Connections that run.")] = 300,
    rate: Annotated[float, typer.Option(min=0, max=1000, help="New connections a second.")] = 100.0,
    flood: Annotated[int, typer.Option(min=100, max=500_000, help="Packets a second of a flood.")] = 20_000,
    ports: Annotated[
        int, typer.Option(min=1024, max=28_232, help="Ports of a client, all of which a spray tries.")
    ] = 28_232,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="Only these disturbances, operations and floods; repeatable."),
    ] = None,
    log: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the director's log there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    name: OwnName = None,
) -> None:
    """Disturb, administer and attack a director under load; status 1 if a connection of a living backend breaks.

    Status 5 if this machine was too busy to judge it.
    """
    from secrets import randbits

    from xdpdirector.lab.chaos.judge import Verdict
    from xdpdirector.lab.chaos.run import run_chaos
    from xdpdirector.lab.chaos.schedule import kinds
    from xdpdirector.lab.chaos.setting import Options as Wanted
    from xdpdirector.lab.chaos.setting import Size
    from xdpdirector.lab.chaos.show import show as show_chaos

    if strange := sorted({*(only or ())} - {*kinds()}):
        raise InvalidRequestError(f"chaos knows no '{strange[0]}': use {', '.join(kinds())}")
    _end_like_ctrl_c()
    wanted = Wanted(
        randbits(32) if seed is None else seed,
        minutes,
        Size(running, rate, flood, ports),
        name or "chaos",
        name is None,
        tuple(only or ()),
        log,
    )
    result = run_chaos(wanted, _say)
    failed = TimedOutError.exit_code if result.verdict is Verdict.BUSY else 1
    _tell(result, show_chaos, as_json=as_json, width=SERVICES_WIDTH, failed=failed)


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

    _end_like_ctrl_c()
    bounds = Bounds(frames, pause, seconds)
    outcome = run_replay(Wanted(capture, config, expect, bounds, name or "replay", name is None), _say)
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
    renew: Annotated[
        bool, typer.Option("--renew", help="Instead: lock the newest Python packages that are admitted.")
    ] = False,
    audit: Annotated[
        bool, typer.Option("--audit", help="Instead: ask which of the locked ones have known faults.")
    ] = False,
) -> None:
    """Build the Debian packages from a checkout, and let lintian judge them."""
    from xdpdirector.lab.package import lock
    from xdpdirector.lab.package.command import package as build_packages

    _end_like_ctrl_c()
    home = Path.cwd() / ".lab" / "package"
    home.mkdir(parents=True, exist_ok=True)
    if renew:
        lock.renew(Path.cwd(), home, _say)
    if audit:
        _say(lock.audit(Path.cwd(), home))
    if renew or audit:
        return
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


def _end_like_ctrl_c() -> None:
    """SIGTERM and SIGHUP take the lab down too."""

    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, leave)
