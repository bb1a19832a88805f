# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector store ...`: where the desired state is kept. Needs no daemon."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from xdpdirector.cli.context import ConfigurationFile, example, target
from xdpdirector.errors import ConfigurationError
from xdpdirector.paths import InstancePaths

app = typer.Typer(help="Where the desired state is kept: move it.")


class Where(StrEnum):
    """As `store.type` says it."""

    ETCD = "etcd"
    SQLITE = "sqlite"


@app.command(epilog=example("xdpdirector store move --to etcd"))
def move(
    context: typer.Context,
    to: Annotated[Where, typer.Option(help="Where the desired state shall be.", show_default=False)],
    yes: Annotated[
        bool, typer.Option("--yes", help="Do it; else it is only said what would be done.")
    ] = False,
    config: ConfigurationFile = None,
) -> None:
    """Move services, revisions and drains from this director's own file to the etcd of its configuration, or back.

    Say in the configuration file which etcd it is (`store`), stop the daemon, and move; packets are forwarded
    meanwhile. After a move to etcd start the daemon; after one to sqlite take `store` out of the file first.
    """
    from xdpdirector.config import config_file
    from xdpdirector.daemon import startup
    from xdpdirector.storage.etcd import move as moving
    from xdpdirector.system import privileges

    chosen = target(context)
    paths, source = InstancePaths(chosen.instance), chosen.configuration(config)
    wanted = config_file.load(source)
    if not wanted.store.is_shared:
        raise ConfigurationError(f"{source} names no etcd: say `store: {{type: etcd, endpoints: ...}}`")
    places = moving.Places(
        own=paths.state,
        copy=paths.fleet_state,
        spare=paths.run / "fleet-spare",
        etcd=wanted.store,
        director=wanted.director_name,
    )
    work = moving.to_etcd if to is Where.ETCD else moving.to_sqlite
    with startup.only_one(paths), privileges.acting_as_owner(paths.state.parent):
        for sentence in work(places, do=yes):
            print(sentence)
    if not yes:
        print("Nothing is done yet: say --yes to do it.")
