# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector dashboard`: the dashboard's address, with a link that logs in once.

Where the API listens on no TCP address, this command does so on loopback while it runs, for a browser on this
machine or at the other end of `ssh -L`.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer

from xdpdirector.cli.context import Format, Output, target
from xdpdirector.cli.render import answer, moment
from xdpdirector.errors import ConflictError
from xdpdirector.paths import InstancePaths
from xdpdirector.relay import PORT, Relay


def dashboard(
    context: typer.Context,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Listen on this port of 127.0.0.1, also where the API listens itself.",
            show_default=False,
        ),
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """The dashboard's address with a link that logs in as you, once, within two minutes.

    Standard output has only the address. Where the API listens on no TCP address, or with --port, the command
    listens on 127.0.0.1 until Ctrl-C.
    """
    chosen = target(context)
    link = chosen.client().post("/v1/sessions/links")
    if link["addresses"] and port is None:
        _tell(output, link, link["addresses"][0])
        return
    try:
        relay = Relay(
            chosen.socket or InstancePaths(chosen.instance).socket, port or PORT, exact=port is not None
        )
    except OSError as error:
        raise ConflictError(f"port {port} of 127.0.0.1 cannot be used: {error.strerror}") from error
    with relay:
        _tell(output, link, relay.address)
        print(
            f"From another machine: ssh -L {relay.port}:127.0.0.1:{relay.port} THIS-MACHINE. Ctrl-C ends it.",
            file=sys.stderr,
            flush=True,
        )
        while True:
            time.sleep(3600)


def _tell(output: Format, link: dict[str, Any], address: str) -> None:
    url = address + link["path"]
    if output is Format.TABLE:
        print(f"Logs in once, until {moment(link['expires'])}:", file=sys.stderr)
    answer(output, {**link, "url": url}, lambda: [url])
    sys.stdout.flush()
