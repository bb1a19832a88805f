# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector lvs ...`: the move from an LVS director."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING, Annotated

import typer

from xdpdirector.cli.context import Format, Output, example, target
from xdpdirector.cli.render import answer, table, write
from xdpdirector.errors import DirectorError, TimedOutError, UnreachableError

if TYPE_CHECKING:
    from xdpdirector.cli.render import Parts
    from xdpdirector.lvs.move import Move, Plan, Steps

PATIENCE = 60.0  # seconds for a command

app = typer.Typer(help="The move from an LVS director.")


@app.callback()
def _group() -> None:
    """The move from an LVS director."""


@app.command(epilog=example("xdpdirector lvs move --from 'ssh lvs1'"))
def move(
    context: typer.Context,
    origin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="COMMAND",
            help="What runs a command on the LVS director, like 'ssh lvs1'. Empty: it is this host.",
            show_default=False,
        ),
    ],
    vip: Annotated[
        list[str] | None, typer.Option(help="Only these; several times.", show_default=False)
    ] = None,
    share: Annotated[
        int, typer.Option(min=0, max=100, help="Per cent of LVS's connections that shall be here before.")
    ] = 95,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait until VIPs may move.")] = 0.0,
    go: Annotated[bool, typer.Option("--go", help="Move the VIPs that may, one by one.")] = False,
    take_back: Annotated[
        bool, typer.Option("--back", help="Instead: the way back, by --untake and --return.")
    ] = False,
    release: Annotated[
        list[str] | None,
        typer.Option(metavar="COMMAND", help="Takes {vip} off LVS; several times.", show_default=False),
    ] = None,
    take: Annotated[
        list[str] | None,
        typer.Option(metavar="COMMAND", help="Puts {vip} here; several times.", show_default=False),
    ] = None,
    untake: Annotated[
        list[str] | None,
        typer.Option(metavar="COMMAND", help="Takes {vip} off here; several times.", show_default=False),
    ] = None,
    give_back: Annotated[
        list[str] | None,
        typer.Option(
            "--return", metavar="COMMAND", help="Puts {vip} on LVS; several times.", show_default=False
        ),
    ] = None,
    within: Annotated[
        float, typer.Option(min=1, help="Seconds in which a VIP's packets shall come here.")
    ] = 15.0,
    output: Output = Format.TABLE,
) -> None:
    """Show what LVS has, what is here, and which VIPs may move; with --go move them.

    Exit code 1 when a VIP may not move, or was taken back.
    """
    from xdpdirector.lvs import move as moving

    steps = moving.Steps(release or (), take or (), untake or (), give_back or ())
    if (go or take_back) and not all(steps):
        raise typer.BadParameter("--go and --back need --release, --take, --untake and --return")
    made = moving.Move(target(context).client(), _run, origin)
    try:
        plan = made.plan_within(0 if take_back else wait)
    except UnreachableError:
        if not (take_back and vip):
            raise
        plan = moving.Plan([moving.VipPlan(each) for each in vip], [], "")  # the way back needs no daemon
    chosen = vip or [each.vip for each in plan.vips]
    if unknown := set(chosen) - {each.vip for each in plan.vips}:
        raise typer.BadParameter(f"LVS has no VIP {', '.join(sorted(unknown))}")
    if take_back:
        for each in reversed(chosen):
            made.take_back(each, steps)
            write(f"{each} is LVS's again\n")
        return
    plan = made.wait(chosen, share / 100, wait, lambda _: None)
    answer(output, moving.document(plan, share / 100), lambda: show(plan, share / 100))
    refused = any(each.why_not(plan.sync, share / 100) for each in plan.vips if each.vip in chosen)
    if go and not _go(made, plan, chosen, steps, share / 100, within):
        raise typer.Exit(1)
    if refused:
        raise typer.Exit(1)


def _go(made: Move, plan: Plan, chosen: list[str], steps: Steps, share: float, within: float) -> bool:
    """One after another, until one is taken back."""
    for each in plan.vips:
        if each.vip not in chosen or each.why_not(plan.sync, share):
            continue
        if why := made.move(each, steps, within):
            write(f"{each.vip} is LVS's again: {why}\n")
            return False
        write(f"{each.vip} is here. The way back: --vip {each.vip} --back\n")
    return True


def show(plan: Plan, share: float) -> Parts:
    rows = table("VIP SERVICES >THERE >HERE MAY MOVE")
    for each in plan.vips:
        why = each.why_not(plan.sync, share)
        rows.add_row(each.vip, " ".join(each.services), str(each.there), str(each.here), why or "yes")
    yield rows
    for each in plan.vips:
        for text in each.missing[1:]:
            yield f"{each.vip}: {text}"
    for text in plan.left:
        yield f"not here: {text}"


def _run(command: str) -> str:
    try:
        done = subprocess.run(
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise TimedOutError(f"'{command}' did not end within {PATIENCE:g} s") from error
    except (OSError, ValueError) as error:
        raise DirectorError(f"'{command}' cannot be run: {error}") from error
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise DirectorError(f"'{command}' ended with status {done.returncode}: {words}")
    return done.stdout
