# SPDX-License-Identifier: Apache-2.0
"""`run`, `load` and `unload`: the commands that are the director, and not a client of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xdpdirector.cli import serving
from xdpdirector.cli.target import target
from xdpdirector.paths import DEFAULT_CONFIGURATION

Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration file.")]


def run(context: typer.Context, config: Config = DEFAULT_CONFIGURATION) -> None:
    """Run the daemon in the foreground until SIGTERM.

    Packets are forwarded after that, too: only `unload` ends it.
    """
    raise typer.Exit(serving.serve(target(context).instance, config))


def load(
    context: typer.Context,
    config: Config = DEFAULT_CONFIGURATION,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an XDP program that is not the director's.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be carried over, and attach nothing.")
    ] = False,
    lose: Annotated[
        bool, typer.Option("--lose-connections", help="Go on where connections cannot be carried over.")
    ] = False,
) -> None:
    """Compile and attach the packet program, then exit.

    One that is attached is replaced in place, without a gap; where its maps are laid out otherwise, what they
    hold is carried over.
    """
    from xdpdirector import loading

    instance = target(context).instance
    if plan:
        raise typer.Exit(loading.plan(instance, config))
    raise typer.Exit(loading.load(instance, config, force=force, lose=lose))


def unload(
    context: typer.Context,
    addresses: Annotated[
        bool, typer.Option("--vips", help="Also take off the VIPs that the daemon put on the interfaces.")
    ] = False,
) -> None:
    """Detach the packet program: forwarding ends.

    Its maps, and with them all connections, are forgotten.
    """
    from xdpdirector import loading

    raise typer.Exit(loading.unload(target(context).instance, addresses=addresses))
