# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector service ...`. Values are handed on as they were typed: the daemon's model judges them."""

from __future__ import annotations

from typing import Any

import typer

from xdpdirector.cli import label_options, show
from xdpdirector.cli.context import (
    Format,
    Output,
    Service,
    Watch,
    example,
    target,
)
from xdpdirector.cli.render import answer, repeated
from xdpdirector.cli.service_options import patch, without_nulls
from xdpdirector.cli.shared_options import taking
from xdpdirector.client import service_path

app = typer.Typer(help="Virtual services: list, show, add, set, remove.")


@app.command("list", epilog=example("xdpdirector service list -o json"))
def list_(
    context: typer.Context,
    selector: label_options.Selector = None,
    watch: Watch = False,
    output: Output = Format.TABLE,
) -> None:
    """All services, or those with labels."""
    client = target(context).client()

    def look() -> tuple[Any, Any]:
        document = client.pages("/v1/services", {"selector": selector})
        return document, lambda: show.services(document["items"])

    repeated(watch, look, output)


@app.command("show", epilog=example("xdpdirector service show web"))
def show_(context: typer.Context, name: Service, watch: Watch = False, output: Output = Format.TABLE) -> None:
    """One service with its backends."""
    client = target(context).client()

    def look() -> tuple[Any, Any]:
        document = client.get(service_path(name))
        return document, lambda: show.service(document)

    repeated(watch, look, output)


@app.command(
    epilog=example(
        "xdpdirector service add web --listen 192.0.2.10:80/tcp --scheduler wlc --check http:/healthz"
    )
)
@taking(patch)
def add(context: typer.Context, name: Service, patch: dict[str, Any], output: Output = Format.TABLE) -> None:
    """Add a service; what is left out takes its default."""
    if "listeners" not in patch:
        raise typer.BadParameter("say what to listen on, like --listen 192.0.2.10:80/tcp")
    document = target(context).client().post("/v1/services", {"name": name} | without_nulls(patch))
    answer(output, document, lambda: show.service(document))


@app.command("set", epilog=example("xdpdirector service set web --scheduler mh --check none"))
@taking(patch)
def set_(context: typer.Context, name: Service, patch: dict[str, Any], output: Output = Format.TABLE) -> None:
    """Change a service; fields that are not given stay. --listen replaces all listeners."""
    if not patch:
        raise typer.BadParameter("say what to change, like --scheduler mh")
    client, path = target(context).client(), service_path(name)
    if patch.get("limit") == {"per_source": None}:
        limit = client.get(path)["limit"]
        if not limit or not limit["rate"]:  # of sources alone: then none of it is left
            patch = patch | {"limit": None}
    document = client.patch(path, patch)
    answer(output, document, lambda: show.service(document))


@app.command(epilog=example("xdpdirector service remove web"))
def remove(context: typer.Context, name: Service) -> None:
    """Remove a service with its backends."""
    target(context).client().delete(service_path(name))
