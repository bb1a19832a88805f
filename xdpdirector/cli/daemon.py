# SPDX-License-Identifier: Apache-2.0
"""`run`, `load` and `unload`: the commands that are the director, and not a client of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xdpdirector.cli.target import target
from xdpdirector.paths import DEFAULT_CONFIGURATION

Config = Annotated[Path, typer.Option("--config", "-c", metavar="FILE", help="The configuration file.")]


def run(context: typer.Context, config: Config = DEFAULT_CONFIGURATION) -> None:
    """Run the daemon in the foreground until SIGTERM; packets are forwarded after that, too."""
    from xdpdirector import daemon

    raise typer.Exit(daemon.run(target(context).instance, config))


def load(
    context: typer.Context,
    config: Config = DEFAULT_CONFIGURATION,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an XDP program that is not the director's.")
    ] = False,
) -> None:
    """Compile the packet program and attach it, or replace it in place; then exit."""
    from xdpdirector import daemon

    raise typer.Exit(daemon.load(target(context).instance, config, force=force))


def unload(context: typer.Context) -> None:
    """Detach the packet program and forget its maps: forwarding ends."""
    from xdpdirector import daemon

    raise typer.Exit(daemon.unload(target(context).instance))
