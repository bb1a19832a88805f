# SPDX-License-Identifier: Apache-2.0
"""`./lab VERB`, for what only this project needs: its bench, chaos, packages and virtual machines.

What `xdpdirector lab` has is for users, too. Verbs import what they need when they are called.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xdpdirector.errors import InvalidRequestError, TimedOutError
from xdpdirector.lab.commands import SERVICES_WIDTH, OwnName, end_like_ctrl_c, say, tell

app = typer.Typer(
    help="What builds, measures and proves this project.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    from dev.bench.command import bench as run_command

    end_like_ctrl_c()
    raise typer.Exit(0 if run_command(name, quick, document, plot, say) else 1)


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

    from dev.chaos.expectations import Verdict
    from dev.chaos.run import run_chaos
    from dev.chaos.schedule import kinds
    from dev.chaos.setting import Options as Wanted
    from dev.chaos.setting import Size
    from dev.chaos.show import show as show_chaos

    if strange := sorted({*(only or ())} - {*kinds()}):
        raise InvalidRequestError(f"chaos knows no '{strange[0]}': use {', '.join(kinds())}")
    end_like_ctrl_c()
    wanted = Wanted(
        randbits(32) if seed is None else seed,
        minutes,
        Size(running, rate, flood, ports),
        name or "chaos",
        name is None,
        tuple(only or ()),
        log,
    )
    result = run_chaos(wanted, say)
    failed = TimedOutError.exit_code if result.verdict is Verdict.BUSY else 1
    tell(result, show_chaos, as_json=as_json, width=SERVICES_WIDTH, failed=failed)


@app.command(context_settings={"ignore_unknown_options": True})
def vm(
    tests: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PYTEST ARGUMENT]...", help="Instead of the usual choice.", show_default=False
        ),
    ] = None,
    shell: Annotated[bool, typer.Option("--shell", help="A shell in the guest instead of tests.")] = False,
    release: Annotated[
        str | None, typer.Option(metavar="CODENAME", help="Of Debian: bookworm (12) or trixie (13).")
    ] = None,
    arch: Annotated[
        str | None, typer.Option(metavar="ARCHITECTURE", help="Of the machine: amd64 or arm64.")
    ] = None,
) -> None:
    """Run tests in an emulated machine with Debian's own kernel, from a checkout; status 1 if one fails."""
    from dev.vm.architecture import AMD64
    from dev.vm.recipe import SUITE
    from dev.vm.session import TESTS, Options, run_session

    end_like_ctrl_c()
    options = Options(Path.cwd(), tests or TESTS, shell, release or SUITE, arch or AMD64.name)
    course = run_session(options, say)
    say(str(course))
    raise typer.Exit(0 if course.passed else 1)


@app.command(name="move-from-lvs")
def move_from_lvs(
    release: Annotated[
        str | None, typer.Option(metavar="CODENAME", help="Of Debian: bookworm (12) or trixie (13).")
    ] = None,
) -> None:
    """Move 300 downloads, and new connections, from the kernel's IPVS to a director, back, and there again, in an
    emulated machine; status 1 if a download breaks."""
    from dev.vm.recipe import SUITE
    from dev.vm.session import MOVE, Options, run_session

    end_like_ctrl_c()
    course = run_session(Options(Path.cwd(), MOVE, suite=release or SUITE), say)
    say(str(course))
    raise typer.Exit(0 if course.passed else 1)


@app.command()
def docs(
    output: Annotated[
        Path | None,
        typer.Option(metavar="DIRECTORY", help="Where, instead of dist/docs; replaced as a whole."),
    ] = None,
) -> None:
    """Build the site of the documents and the course, with a search that needs no network; status 1 if a link in it
    leads nowhere."""
    from dev.documents.site import build

    end_like_ctrl_c()
    place = output or Path.cwd() / "dist" / "docs"
    build(Path.cwd(), place, say)
    say(f"open {place}/index.html in a browser, or serve the directory")


@app.command()
def slides(
    output: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Where, instead of dist/slides.")
    ] = None,
) -> None:
    """Make slides of the lessons in training/, as HTML and PDF."""
    from dev.documents.slides import build

    end_like_ctrl_c()
    for path in build(Path.cwd(), output or Path.cwd() / "dist" / "slides", say):
        say(str(path))


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
    repository: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Add them to an APT repository there.")
    ] = None,
    key: Annotated[
        str, typer.Option(help="The secret key of gpg's that signs the repository.", show_default=False)
    ] = "",
) -> None:
    """Build the Debian packages from a checkout, and let lintian judge them."""
    from dev.package import lock
    from dev.package.command import package as build_packages

    end_like_ctrl_c()
    if (repository is None) != (not key):
        raise InvalidRequestError("--repository and --key belong together: give both")
    home = Path.cwd() / ".lab" / "package"
    home.mkdir(parents=True, exist_ok=True)
    if renew:
        lock.renew(Path.cwd(), home, say)
    if audit:
        say(lock.audit(Path.cwd(), home))
    if renew or audit:
        return
    build_packages(Path.cwd(), say, trial=trial, repository=repository, key=key)


@app.command()
def iso(
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The image; by default dist/xdpdirector.iso.")
    ] = None,
    answers: Annotated[
        Path | None, typer.Option(metavar="SITE.YAML", help="The answer file that it brings along.")
    ] = None,
    trial: Annotated[
        bool, typer.Option("--try", help="Install, rescue and refuse with it on emulated machines.")
    ] = False,
) -> None:
    """Build the install and rescue CD from a checkout."""
    from dev.iso.command import iso as build_image

    end_like_ctrl_c()
    if trial and answers:
        raise InvalidRequestError("--try brings its own answers: leave --answers out")
    build_image(Path.cwd(), say, output=output, site=answers, trial=trial)


@app.command()
def vagrant(
    backends: Annotated[int, typer.Option(min=2, max=3, help="How many backends.")] = 3,
    pair: Annotated[bool, typer.Option("--pair", help="Instead: two directors, one takes over.")] = False,
) -> None:
    """Bring up the machines of vagrant/ in emulation, put them through their paces, destroy them."""
    from dev.vagrant.command import Options, outside

    end_like_ctrl_c()
    raise typer.Exit(outside(Options(Path.cwd(), backends, pair), say))


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
    from dev.versus_ipvs.command import versus

    end_like_ctrl_c()
    raise typer.Exit(0 if versus(Path.cwd(), quick, document, plot, say) else 1)
