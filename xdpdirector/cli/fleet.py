# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector fleet ...`: the other directors."""

from __future__ import annotations

from typing import Any

import typer

from xdpdirector.cli.context import Format, Output, example, target
from xdpdirector.cli.render import Parts, answer, state, table

app = typer.Typer(help="The other directors: which have this one's connections, and whose it has.")


@app.command(epilog=example("xdpdirector fleet status"))
def status(context: typer.Context, output: Output = Format.TABLE) -> None:
    """How far each peer is.

    Exit code 1 when connections do not travel in both directions.
    """
    document = target(context).client().get("/v1/fleet")
    answer(output, document, lambda: show(document))
    directions = [peer[way] for peer in document["peers"] for way in ("outgoing", "incoming")]
    if document["waiting"] or any(each["state"] not in ("bulk", "synced") for each in directions):
        raise typer.Exit(1)


def show(document: dict[str, Any]) -> Parts:
    """What is wrong comes below the table."""
    if not document["peers"]:
        yield "This director has no peers: see `sync` of the configuration."
        return
    yield f"{document['name']} in the fleet '{document['fleet']}'"
    yield ""
    rows = table("PEER NAME TO >SENT >LAG FROM >TAKEN >CONFLICTS >UNKNOWN >FULL")
    for peer in document["peers"]:
        out, came = peer["outgoing"], peer["incoming"]
        rows.add_row(
            peer["address"],
            peer["name"] or "?",
            state(out["state"]),
            str(out["records"]),
            "" if out["lag"] is None else f"{1000 * out['lag']:.0f} ms",
            state(came["state"]),
            str(came["records"]),
            str(peer["conflicts"]),
            str(peer["unknown"]),
            str(peer["full"]),
        )
    yield rows
    if document["waiting"]:
        yield ""
        yield f"Not ready: {document['waiting']}"
    for peer in document["peers"]:
        for way, text in (("outgoing", "nothing is sent there"), ("incoming", "nothing comes from there")):
            if peer[way]["why"]:
                yield f"{peer['address']}: {text}: {peer[way]['why']}"
