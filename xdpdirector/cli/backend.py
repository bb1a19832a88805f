# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector backend ...`. Values are handed on as they were typed: the daemon's model judges them."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from math import inf
from typing import Annotated, Any

import typer

from xdpdirector.cli import complete, label_options, show
from xdpdirector.cli.context import (
    Backend,
    BackendName,
    Format,
    Output,
    Reason,
    Watch,
    example,
    target,
)
from xdpdirector.cli.render import answer, repeated
from xdpdirector.client import Client, backend_path, service_path
from xdpdirector.errors import ConflictError, TimedOutError

app = typer.Typer(help="Backends: list, show, add, set, drain, remove ...")
LONGEST_POLL, LIVELY_POLL = 30.0, 2.0  # seconds
CUT_TAKES = 20.0  # seconds
Weight = Annotated[
    int | None, typer.Option(help="Its share; 0 takes no new connections.", show_default=False)
]
MaxConnections = Annotated[
    int | None, typer.Option(help="At so many connections it takes no new ones.", show_default=False)
]
QuicId = Annotated[
    str | None,
    typer.Option(help="Its ID in QUIC connection IDs, in hex.", metavar="HEX", show_default=False),
]
Forward = Annotated[
    str | None,
    typer.Option(
        help="How packets reach it: direct, ipip or gue; by default as its service says.", show_default=False
    ),
]
SomeBackend = Annotated[
    BackendName | None,
    typer.Argument(
        parser=BackendName.parse,
        metavar="[SERVICE/BACKEND]",
        help="For example web/web1.",
        show_default=False,
        autocompletion=complete.backends,
    ),
]


@app.command("list", epilog=example("xdpdirector backend list web"))
def list_(
    context: typer.Context,
    service: Annotated[
        str | None,
        typer.Argument(
            metavar="[SERVICE]",
            help="Of this service; else all.",
            show_default=False,
            autocompletion=complete.services,
        ),
    ] = None,
    selector: label_options.Selector = None,
    watch: Watch = False,
    output: Output = Format.TABLE,
) -> None:
    """The backends of a service, or of all."""
    client = target(context).client()

    def look() -> tuple[Any, Any]:
        path = "/v1/backends" if service is None else f"{service_path(service)}/backends"
        document = client.pages(path, {"selector": selector})
        return document, lambda: show.backends(document["items"])

    repeated(watch, look, output)


@app.command("show", epilog=example("xdpdirector backend show web/web1"))
def show_(context: typer.Context, name: Backend, watch: Watch = False, output: Output = Format.TABLE) -> None:
    """One backend with all that is known of it."""
    client = target(context).client()

    def look() -> tuple[Any, Any]:
        document = client.get(_path(name))
        return document, lambda: show.backend(document)

    repeated(watch, look, output)


@app.command(epilog=example("xdpdirector backend add web/web3 192.0.2.23 --weight 2"))
def add(
    context: typer.Context,
    name: Backend,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Its own address, not the VIP.")],
    weight: Weight = None,
    max_connections: MaxConnections = None,
    quic_id: QuicId = None,
    forward: Forward = None,
    label: label_options.Label = None,
    output: Output = Format.TABLE,
) -> None:
    """Add a backend to a service."""
    body = (
        {"name": name.backend, "address": address}
        | _given(weight, max_connections, quic_id, forward)
        | label_options.patch(label)
    )
    document = target(context).client().post(f"{service_path(name.service)}/backends", body)
    answer(output, document, lambda: show.backends([document]))


@app.command("set", epilog=example("xdpdirector backend set web/web1 --weight 5"))
def set_(
    context: typer.Context,
    name: Backend,
    weight: Weight = None,
    max_connections: MaxConnections = None,
    quic_id: QuicId = None,
    forward: Forward = None,
    label: label_options.Label = None,
    output: Output = Format.TABLE,
) -> None:
    """Change a backend; running connections stay."""
    body = _given(weight, max_connections, quic_id, forward) | label_options.patch(label)
    if not body:
        raise typer.BadParameter("say what to change, like --weight 5")
    document = target(context).client().patch(_path(name), body)
    answer(output, document, lambda: show.backends([document]))


@app.command(epilog=example("xdpdirector backend drain web/web2 --wait --deadline 10m"))
def drain(
    context: typer.Context,
    name: SomeBackend = None,
    selector: label_options.Selector = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Return when no connection is left; exit code 5 after the deadline."),
    ] = False,
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="When the drain ends, like 10m.", show_default=False)
    ] = None,
    on_deadline: Annotated[
        str | None, typer.Option(help="keep or cut the connections left then.", show_default="keep")
    ] = None,
    reason: Reason = "",
    output: Output = Format.TABLE,
) -> None:
    """Send a backend no new connections; running ones go on. With -l all that have these labels, as one change."""
    options = {"reason": reason or None, "deadline": deadline, "on_deadline": on_deadline}
    body = {field: value for field, value in options.items() if value is not None}
    client = target(context).client()
    documents = _set_admin(client, name, selector, "drain", body)
    if wait:
        documents = [_drained(client, BackendName(each["service"], each["name"]), each) for each in documents]
    _answer(output, name, documents)


@app.command(epilog=example("xdpdirector backend enable web/web2"))
def enable(
    context: typer.Context,
    name: SomeBackend = None,
    selector: label_options.Selector = None,
    reason: Reason = "",
    output: Output = Format.TABLE,
) -> None:
    """Take a backend into service again. With -l all that have these labels, as one change."""
    client = target(context).client()
    _answer(output, name, _set_admin(client, name, selector, "enable", {"reason": reason}))


@app.command(epilog=example("xdpdirector backend maintenance web/web2 --reason 'new disk'"))
def maintenance(
    context: typer.Context,
    name: SomeBackend = None,
    selector: label_options.Selector = None,
    reason: Reason = "",
    output: Output = Format.TABLE,
) -> None:
    """Send a backend nothing at all; running connections are cut. With -l all that have these labels, as one
    change."""
    client = target(context).client()
    _answer(output, name, _set_admin(client, name, selector, "maintenance", {"reason": reason}))


@app.command(epilog=example("xdpdirector backend remove web/web2 --drain 60s"))
def remove(
    context: typer.Context,
    name: Backend,
    force: Annotated[bool, typer.Option("--force", help="Also with running connections.")] = False,
    drain: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Drain it first, this long at most (10m).", show_default=False),
    ] = None,
) -> None:
    """Remove a backend.

    Refused while it has connections, unless forced or drained first.
    """
    query = {"force": "true" if force else None, "drain": drain}
    target(context).client().delete(_path(name), query, timeout=None)


def _path(name: BackendName) -> str:
    return backend_path(name.service, name.backend)


def _set_admin(
    client: Client, name: BackendName | None, selector: str | None, verb: str, body: dict[str, Any]
) -> list[dict[str, Any]]:
    """Of the one that is named, or of all with these labels."""
    if (name is None) == (selector is None):
        raise typer.BadParameter("name a backend, like web/web1, or say -l with labels, like -l rack=b3")
    if name is not None:
        return [client.post(f"{_path(name)}/{verb}", body)]
    items: list[dict[str, Any]] = client.post(f"/v1/backends/{verb}", body, {"selector": selector})["items"]
    return items


def _answer(output: Format, name: BackendName | None, documents: list[dict[str, Any]]) -> None:
    shown: Any = {"items": documents} if name is None else documents[0]
    answer(output, shown, lambda: show.backends(documents))


def _drained(client: Client, name: BackendName, document: dict[str, Any]) -> dict[str, Any]:
    """The backend once it is drained, or cut at its deadline as was asked.

    TimedOutError past the deadline, ConflictError when somebody ended the drain.
    """
    end, cut = _end(document), (document["drain"] or {}).get("on_deadline") == "cut"
    while True:
        left = inf if end is None else end - time.monotonic()
        step = min(left, LIVELY_POLL if sys.stderr.isatty() else LONGEST_POLL)
        try:
            query = {"wait": "drained", "timeout": f"{max(step, 0.1):.3f}s"}
            drained: dict[str, Any] = client.get(_path(name), query, timeout=None)
            return drained
        except (TimedOutError, ConflictError):
            document = client.get(_path(name))
        if document["admin"] == "maintenance" and cut:
            return document
        if document["admin"] != "drain":
            raise ConflictError(
                f"Backend '{name.service}/{name.backend}' is no longer draining: it was set to "
                f"{document['admin']} meanwhile."
            )
        remaining = show.remaining(document)
        if end is not None and time.monotonic() >= end:
            raise TimedOutError(
                f"Backend '{name.service}/{name.backend}' still has {remaining} at its deadline. "
                "It takes no new ones: wait longer, or cut them with `xdpdirector backend maintenance`."
            )
        if sys.stderr.isatty():
            print(f"{name.service}/{name.backend}: {remaining} left", file=sys.stderr)


def _end(document: dict[str, Any]) -> float | None:
    """When waiting is over, in monotonic seconds: the deadline, and with `cut` the moment that cutting takes."""
    progress = document["drain"] or {}
    if not progress.get("deadline"):
        return None
    cut = progress["on_deadline"] == "cut"
    left = datetime.fromisoformat(progress["deadline"]) - datetime.now(UTC)
    return time.monotonic() + left.total_seconds() + (CUT_TAKES if cut else 0.0)


def _given(
    weight: int | None, max_connections: int | None, quic_id: str | None, forward: str | None
) -> dict[str, Any]:
    said = {
        "weight": weight,
        "max_connections": max_connections,
        "quic_id": quic_id,
        "forward": forward,
    }
    return {name: value for name, value in said.items() if value is not None}
