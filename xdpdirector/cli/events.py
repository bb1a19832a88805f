# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector events`: what happened, and what happens."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from xdpdirector.cli.context import Format, Output, target
from xdpdirector.cli.render import entry, paint
from xdpdirector.client import Client
from xdpdirector.errors import UnreachableError
from xdpdirector.sse import Message

COME_BACK = 1.0  # seconds between two tries to find the daemon again
_COLOURS = {
    "backend.up": "green",
    "backend.partial": "yellow",
    "backend.down": "bold red",
    "backend.cut": "red",
    "passive.suspect": "yellow",
    "passive.ejected": "bold red",
    "passive.trial": "yellow",
    "passive.normal": "green",
    "director.problem": "bold red",
    "director.recovered": "green",
    "dataplane.drift": "yellow",
    "dataplane.lost": "bold red",
    "vip.absent": "bold red",
    "gap": "yellow",
}

Types = Annotated[
    str,
    typer.Option(help="Only these kinds, with commas between, like backend.down or lan.", show_default="all"),
]
Last = Annotated[int, typer.Option("--last", "-n", help="Begin with so many that were before.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what will happen, until Ctrl-C.")]


def events(
    context: typer.Context,
    types: Types = "",
    last: Last = 20,
    follow: Follow = False,
    output: Output = Format.TABLE,
) -> None:
    """What the director did and saw, and what it does and sees.

    Verdicts of checks, changes, drains, VIPs, the network, the data plane. Followed, it waits for the next daemon
    when one ends.
    """
    query = {"types": types or None, "last": last, "follow": "true" if follow else "false"}
    client = target(context).client()
    for message in _followed(client, query) if follow else client.stream("/v1/events", query):
        document = json.loads(message.data)
        if message.event == "gap":
            document = {"kind": "gap", "text": _gap(document["missed"]), **document}
        entry(output, document, lambda: _line(document))  # noqa: B023 called at once


def _followed(client: Client, query: dict[str, Any]) -> Iterator[Message]:
    """Continues when the daemon restarts: events in between are lost, and that is reported."""
    after: str | None = None
    while True:
        try:
            for message in client.stream("/v1/events", query, after=after):
                after = message.id
                yield message
        except UnreachableError:
            if after is None:
                raise
        else:
            print("the daemon has ended: waiting for the next one", file=sys.stderr)
        time.sleep(COME_BACK)


def _gap(missed: int | None) -> str:
    if missed is None:
        return "another daemon runs now: what happened in between is not known"
    return f"{missed} events are lost here: they were too many"


def _line(event: dict[str, Any]) -> str:
    at = f"{datetime.fromisoformat(event['at']).astimezone():%m-%d %H:%M:%S}" if "at" in event else " " * 14
    kind = paint(f"{event['kind']:<18}", _COLOURS.get(event["kind"], ""))
    return f"{at}  {kind}  " + paint(f"{event.get('subject', ''):<16}  {event['text']}", "")
