# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector guard ...`. Values are handed on as they were typed: the daemon's model judges them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from xdpdirector.cli.context import (
    Format,
    Output,
    Reason,
    example,
    target,
)
from xdpdirector.cli.render import Parts, answer, moment, number, plural, table

app = typer.Typer(help="Who is denied, and what limits refused: show, list, deny, allow.")
Prefixes = Annotated[
    list[str],
    typer.Argument(metavar="PREFIX...", help="Like 203.0.113.0/24 or 2001:db8:7::/48, or addresses."),
]


@app.command("show", epilog=example("xdpdirector guard show"))
def show_(context: typer.Context, output: Output = Format.TABLE) -> None:
    """How many prefixes are denied, and what each service's limit refused."""
    document = target(context).client().get("/v1/guard")
    answer(output, document, lambda: overview(document))


@app.command("list", epilog=example("xdpdirector guard list --client 203.0.113.9"))
def list_(
    context: typer.Context,
    client: Annotated[
        str | None, typer.Option(help="Only prefixes over this address.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
    output: Output = Format.TABLE,
) -> None:
    """The denied prefixes, and how many packets each of them dropped."""
    document = target(context).client().get("/v1/guard/deny", {"client": client, "limit": limit})
    answer(output, document, lambda: denied(document["items"]))


@app.command(epilog=example("xdpdirector guard deny 203.0.113.0/24 --reason 'floods since noon'"))
def deny(
    context: typer.Context, prefixes: Prefixes, reason: Reason = "", output: Output = Format.TABLE
) -> None:
    """Drop every packet of these clients from now on, also of running connections.

    Of a prefix that is denied already, the reason changes.
    """
    client = target(context).client()
    items = [client.put(_path(prefix), {"reason": reason}) for prefix in prefixes]
    answer(output, {"items": items}, lambda: denied(items))


@app.command(epilog=example("xdpdirector guard allow 203.0.113.0/24"))
def allow(context: typer.Context, prefixes: Prefixes) -> None:
    """Let these clients in again; a wider prefix may still deny them."""
    client = target(context).client()
    for prefix in prefixes:
        client.delete(_path(prefix))


def _path(prefix: str) -> str:
    return f"/v1/guard/deny/{quote(prefix, safe='')}"


def overview(document: dict[str, Any]) -> Parts:
    """The counts, then a row for each limit."""
    yield (
        f"{plural(document['denied'], 'prefix', 'prefixes')} denied (room for {number(document['room'])}); "
        f"{plural(document['denied_packets'], 'packet')} dropped for it."
    )
    if not document["limits"]:
        yield "No service limits its new connections."
        return
    yield ""
    rows = table("SERVICE LIMIT >REFUSED PER-SOURCE >REFUSED")
    for name, each in document["limits"].items():
        limit, refused = each["limit"] or {}, each["refused"]
        rows.add_row(
            name,
            said(limit),
            number(refused["by_service"]),
            source(limit.get("per_source")),
            number(refused["by_source"]),
        )
    yield rows


def denied(items: list[dict[str, Any]]) -> Parts:
    """A row for each, and below what may not be meant."""
    rows = table("PREFIX >PACKETS SINCE AUTHOR REASON")
    for each in items:
        rows.add_row(
            each["prefix"], number(each["packets"]), moment(each["since"]), each["author"], each["reason"]
        )
    yield rows if items else "None is denied."
    for each in items:
        yield from (f"{each['prefix']}: {warning}" for warning in each["warnings"])


def said(limit: dict[str, Any] | None) -> str:
    """A rate and its burst."""
    if not limit or not limit.get("rate"):
        return "none"
    return f"{limit['rate']} burst {limit['burst']}" if limit.get("burst") else str(limit["rate"])


def source(limit: dict[str, Any] | None) -> str:
    """The same of a source, and what one is."""
    return f"{said(limit)} (/{limit['prefix']}, /{limit['prefix6']})" if limit else "none"
