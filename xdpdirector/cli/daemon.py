# SPDX-License-Identifier: Apache-2.0
"""`run`, `load` and `unload`: the commands that are the director, and not a client of one."""

from __future__ import annotations

from typing import Annotated

import typer

from xdpdirector.cli import daemon_entry
from xdpdirector.cli.context import ConfigurationFile, target


def run(context: typer.Context, config: ConfigurationFile = None) -> None:
    """Run the daemon in the foreground until SIGTERM.

    Packets are forwarded after that, too: only `unload` ends it.
    """
    raise typer.Exit(daemon_entry.serve(target(context).instance, target(context).configuration(config)))


def load(
    context: typer.Context,
    config: ConfigurationFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an XDP program that is not the director's.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be carried over, and change nothing.")
    ] = False,
    prepare: Annotated[
        bool,
        typer.Option(
            "--prepare",
            help="Compile and load, attach nothing: the next load is quick. The running program stays.",
        ),
    ] = False,
    compile_only: Annotated[
        bool,
        typer.Option(
            "--compile", help="Only compile, so that later loads, also after a reboot, need no compiler."
        ),
    ] = False,
    lose: Annotated[
        bool, typer.Option("--lose-connections", help="Go on where connections cannot be carried over.")
    ] = False,
) -> None:
    """Compile and attach the packet program, then exit.

    One that is attached is replaced in place, without a gap; where its maps are laid out otherwise, what they
    hold is carried over.
    """
    from xdpdirector.daemon import startup

    instance, file = target(context).instance, target(context).configuration(config)
    if compile_only:
        raise typer.Exit(startup.compile_only(file))
    if plan:
        raise typer.Exit(startup.plan(instance, file))
    raise typer.Exit(startup.load(instance, file, force=force, lose=lose, only_prepare=prepare))


def unload(
    context: typer.Context,
    addresses: Annotated[
        bool, typer.Option("--vips", help="Also take off the VIPs that the daemon put on the interfaces.")
    ] = False,
    everything: Annotated[
        bool,
        typer.Option(
            "--everything",
            help="End the daemon first; take program and VIPs off in each network namespace of this machine.",
        ),
    ] = False,
) -> None:
    """Detach the packet program: forwarding ends.

    Its maps, and with them all connections, are forgotten.
    """
    from xdpdirector.daemon import startup

    if everything:
        raise typer.Exit(startup.unload_everywhere(target(context).instance))
    raise typer.Exit(startup.unload(target(context).instance, addresses=addresses))
