# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector token ...` and `xdpdirector audit`: who may use the API, and what they did.

Tokens go through the daemon. When none runs, the one who may write its file does so directly: a daemon that listens
on TCP does not start before there is a token.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xdpdirector.cli.context import (
    Format,
    Output,
    Target,
    example,
    target,
)
from xdpdirector.cli.render import Parts, answer, moment, state, table
from xdpdirector.errors import UnreachableError
from xdpdirector.paths import InstancePaths

if TYPE_CHECKING:
    from xdpdirector.storage.offline_access import OfflineAccess

app = typer.Typer(help="Tokens for the API: add, list, remove.")
Name = Annotated[str, typer.Argument(metavar="NAME", help="The token's name.", show_default=False)]


@app.command(epilog=example("xdpdirector token add prometheus --role read --lifetime 365d"))
def add(
    context: typer.Context,
    name: Name,
    role: Annotated[str, typer.Option(help="read, operate or admin.", show_default=False)],
    lifetime: Annotated[
        str | None, typer.Option(help="How long it is valid, like 30d; else for ever.", show_default=False)
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a token and show its text, which cannot be shown again.

    Standard output has only the text, so that it can be written to a file.
    """
    body = {"name": name, "role": role} | ({"lifetime": lifetime} if lifetime is not None else {})
    document = _asked(
        target(context),
        lambda chosen: chosen.client().post("/v1/tokens", body),
        lambda offline: offline.add(body),
    )
    if output is Format.TABLE:
        until = f"valid until {moment(document['expires'])}" if document["expires"] else "valid for ever"
        print(f"Token '{name}' with the role {role}, {until}; its text is not shown again:", file=sys.stderr)
    answer(output, document, lambda: [document["token"]])


@app.command("list", epilog=example("xdpdirector token list"))
def list_(context: typer.Context, output: Output = Format.TABLE) -> None:
    """All tokens; their texts are stored nowhere."""
    document = _asked(
        target(context), lambda chosen: chosen.client().get("/v1/tokens"), lambda offline: offline.list()
    )
    answer(output, document, lambda: _tokens(document["items"]))


@app.command(epilog=example("xdpdirector token remove prometheus"))
def remove(context: typer.Context, name: Name) -> None:
    """Remove a token: it opens nothing any more."""
    from urllib.parse import quote

    _asked(
        target(context),
        lambda chosen: chosen.client().delete(f"/v1/tokens/{quote(name, safe='')}"),
        lambda offline: offline.remove(name),
    )


def audit(
    context: typer.Context,
    author: Annotated[
        str | None, typer.Option(help="Only by this one: root, token:deploy.", show_default=False)
    ] = None,
    operation: Annotated[
        str | None, typer.Option(help="Only this operation: drain_backend.", show_default=False)
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only from then on: 2025-01-31T12:00:00Z.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 100,
    cursor: Annotated[str | None, typer.Option(help="`next` of the page before.", show_default=False)] = None,
    output: Output = Format.TABLE,
) -> None:
    """Who tried to change what, and what came of it; the newest first."""
    query = {"author": author, "operation": operation, "since": since, "limit": limit, "cursor": cursor}
    document = target(context).client().get("/v1/audit", query)
    answer(output, document, lambda: _audit(document))


def _asked(chosen: Target, online: Callable[[Target], Any], offline: Callable[[OfflineAccess], Any]) -> Any:
    """Of the daemon; of its file when none runs here."""
    try:
        return online(chosen)
    except UnreachableError:
        if chosen.socket is not None:
            raise
    from xdpdirector.storage.offline_access import OfflineAccess

    with OfflineAccess(InstancePaths(chosen.instance).access) as file:
        result = offline(file)
        print(f"No daemon runs: {file.path} was used directly.", file=sys.stderr)
        return result


def _tokens(items: Sequence[dict[str, Any]]) -> Parts:
    rows = table("TOKEN ROLE CREATED EXPIRES LAST-USED")
    for each in items:
        times = [moment(each[key]) if each[key] else "never" for key in ("created", "expires", "last_used")]
        rows.add_row(each["name"], each["role"], *times)
    yield rows if items else "There are no tokens: `xdpdirector token add` makes one."


def _audit(document: dict[str, Any]) -> Parts:
    rows = table("TIME AUTHOR FROM OPERATION OUTCOME >REVISION REQUEST REASON")
    for each in document["items"]:
        revision = "" if each["revision"] is None else str(each["revision"])
        why = " / ".join(filter(None, (each["reason"], each["detail"])))
        rows.add_row(
            moment(each["at"]),
            each["author"],
            each["source"],
            each["operation"],
            state(each["outcome"]),
            revision,
            each["request"],
            why,
        )
    yield rows if document["items"] else "Nothing has been changed that this would show."
    if document["next"]:
        yield f"There is more: --cursor {document['next']}"
