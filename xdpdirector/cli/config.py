# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector config ...` and `xdpdirector revisions ...`: the configuration as a whole, and its past.

But for `check`, which needs no daemon, a file is read for its syntax only; the daemon judges what it says, and what
is wrong is found in the file again.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xdpdirector.cli.context import (
    Format,
    Output,
    Reason,
    Target,
    example,
    target,
)
from xdpdirector.cli.render import Parts, answer, facts, moment, number, state, table, write, yaml_shown
from xdpdirector.config.json_pointer import parts_of
from xdpdirector.errors import ConfigurationError, ConflictError, InvalidRequestError

if TYPE_CHECKING:
    from xdpdirector.config.yaml_document import Document

CONFIG = "/v1/config"
YAML = "application/yaml"
PATIENCE = 300.0  # a large configuration takes its time to reach the maps

app = typer.Typer(help="The configuration as a whole: check, show, plan, apply, edit.")
revisions = typer.Typer(help="Former configurations: list, show, rollback.")
File = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A configuration file; - is standard input.", show_default=False),
]
Number = Annotated[int, typer.Argument(metavar="REVISION", help="Its number.", show_default=False)]


@app.command(epilog=example("xdpdirector config show > director.yaml"))
def show(context: typer.Context, output: Output = Format.TABLE) -> None:
    """All that is wanted now, in the form of the configuration file."""
    client = target(context).client()
    if output is Format.JSON:
        answer(output, client.get(CONFIG), lambda: ())
    else:
        write(yaml_shown(client.text(CONFIG, YAML)[0]))


@app.command(epilog=example("xdpdirector config check director.yaml"))
def check(file: File) -> None:
    """Whether a daemon could start with a configuration, as `nginx -t` and `haproxy -c` do: no daemon is asked.

    Exit code 2 when it could not; each fault is named with its line. The files that it names are read, too. What
    depends on the machine, such as whether an interface exists, `xdpdirector doctor` examines.
    """
    from xdpdirector.cli import config_check

    config_check.require(_read(file))
    print(f"{_source(file)}: the configuration is valid")


@app.command(epilog=example("xdpdirector config plan director.yaml"))
def plan(context: typer.Context, file: File, output: Output = Format.TABLE) -> None:
    """What a configuration would change, and which connections it would cut; nothing is done.

    Exit code 1 when it would change something.
    """
    document = _put(target(context), _read(file), {"dry_run": "true"})
    answer(output, document, lambda: _plan(document))
    if document["changes"]:
        raise typer.Exit(1)


@app.command(epilog=example("xdpdirector config apply director.yaml --reason 'ticket 4711'"))
def apply(context: typer.Context, file: File, reason: Reason = "", output: Output = Format.TABLE) -> None:
    """Make a configuration all that is wanted: services and backends that it does not have go.

    All of it or nothing. Drain and maintenance of a backend stay where the file does not state `admin`.
    """
    document = _put(target(context), _read(file), {}, reason=reason)
    answer(output, document, lambda: _plan(document))


@app.command(epilog=example("EDITOR=nano xdpdirector config edit"))
def edit(context: typer.Context, reason: Reason = "", output: Output = Format.TABLE) -> None:
    """Change the configuration in an editor; refused if it was changed elsewhere in between."""
    chosen = target(context)
    text, etag = chosen.client().text(CONFIG, YAML)
    text = yaml_shown(text)  # an editor shows it to a terminal, and obeys some of it
    with NamedTemporaryFile("w", prefix="xdpdirector-", suffix=".yaml", delete=False) as file:
        file.write(text)
    path = Path(file.name)
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    subprocess.run([*shlex.split(editor), str(path)], check=False)
    if path.read_text() == text:
        path.unlink()
        print("Nothing was changed.", file=sys.stderr)
        return
    try:
        document = _put(chosen, _read(path), {}, reason=reason, etag=etag)
    except Exception:
        print(f"What you wrote is kept in {path}.", file=sys.stderr)
        raise
    path.unlink()
    answer(output, document, lambda: _plan(document))


@revisions.command("list", epilog=example("xdpdirector revisions list --limit 10"))
def list_(
    context: typer.Context,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="`next` of the page before.", show_default=False)] = None,
    output: Output = Format.TABLE,
) -> None:
    """Who changed what is wanted, when and why; the newest first."""
    document = target(context).client().get("/v1/revisions", {"limit": limit, "cursor": cursor})
    answer(output, document, lambda: _revisions(document))


@revisions.command("show", epilog=example("xdpdirector revisions show 17"))
def show_revision(context: typer.Context, revision: Number, output: Output = Format.TABLE) -> None:
    """What a revision changed; with -o json also all that was wanted then."""
    document = target(context).client().get(f"/v1/revisions/{revision}")
    answer(output, document, lambda: _revision(document))


@revisions.command(epilog=example("xdpdirector revisions rollback 17 --reason 'it was better'"))
def rollback(
    context: typer.Context,
    revision: Number,
    reason: Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it would change.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Want again what a revision wanted, admin states included: a new revision.

    With --dry-run exit code 1 when it would change something.
    """
    body, query = {"reason": reason}, {"dry_run": "true"} if dry_run else {}
    path = f"/v1/revisions/{revision}/rollback"
    document = target(context).client().post(path, body, query, timeout=PATIENCE)
    answer(output, document, lambda: _plan(document))
    if dry_run and document["changes"]:
        raise typer.Exit(1)


def _read(path: Path) -> Document:
    """YAML, of which JSON is a part."""
    from xdpdirector.config import yaml_document

    source = _source(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigurationError(f"it cannot be read: {why}", source=source) from error
    found = yaml_document.parse(text, source)
    if found.data is None:
        raise ConfigurationError(
            "there is nothing in it: `xdpdirector config show` writes one", source=source
        )
    return found


def _source(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)


def _put(chosen: Target, file: Document, query: dict[str, str], *, reason: str = "", etag: str = "") -> Any:
    """Errors name the line of the file."""
    headers = {"change-reason": reason, "if-match": etag}
    given = {name: value for name, value in headers.items() if value}
    try:
        return chosen.client().put(CONFIG, file.data, query, headers=given, timeout=PATIENCE)
    except (InvalidRequestError, ConflictError) as error:
        if not error.pointer:
            raise
        line, column = file.place(parts_of(error.pointer, file.data))
        error.detail = f"{file.source}:{line}:{column}: {error.detail}"
        raise


def _plan(document: dict[str, Any]) -> Parts:
    if not document["changes"]:
        yield f"Nothing differs from revision {document['revision']}."
        return
    verb = "would change" if document["dry_run"] else f"changed, as revision {document['revision']}"
    yield f"This {verb}:" if document["dry_run"] else f"This has {verb}:"
    yield from _changes(document["changes"])
    if document["affected"]:
        yield ""
        yield "Connections that " + ("would be" if document["dry_run"] else "were") + " cut off:"
        rows = table("BACKEND >CONNECTIONS WHY")
        for each in document["affected"]:
            count = number(each["connections"]) + ("" if each["exact"] else " (perhaps)")
            rows.add_row(f"{each['service']}/{each['backend']}", count, each["why"])
        yield rows
    if document["missing"]:
        yield ""
        yield "Not there yet; new connections for it would go to other backends, or be refused:"
        rows = table("BACKEND ADDRESS WHY")
        for each in document["missing"]:
            rows.add_row(f"{each['service']}/{each['backend']}", each["address"], each["why"])
        yield rows


def _changes(changes: Sequence[dict[str, Any]]) -> Parts:
    rows = table("CHANGE WHAT BEFORE AFTER")
    for each in changes:
        shown = [_value(each[side]) for side in ("before", "after")]
        rows.add_row(state(each["action"]), each["pointer"].removeprefix("/"), *shown)
    yield rows


def _value(value: Any) -> str:
    """Of a whole service or backend only where it is."""
    if isinstance(value, dict):
        names = ("listeners", "address")
        return next((_value(value[name]) for name in names if name in value), json.dumps(value))
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return "" if value is None else str(value)


def _revisions(document: dict[str, Any]) -> Parts:
    rows = table(">REVISION TIME AUTHOR REASON")
    for each in document["items"]:
        rows.add_row(str(each["revision"]), moment(each["at"]), each["author"], each["reason"])
    yield rows if document["items"] else "Nothing was wanted yet."
    if document["next"]:
        yield f"There are more: --cursor {document['next']}"


def _revision(document: dict[str, Any]) -> Parts:
    yield facts(
        ("revision", str(document["revision"])),
        ("time", moment(document["at"])),
        ("author", document["author"]),
        ("reason", document["reason"]),
        ("services", ", ".join(document["services"]) or "none"),
    )
    yield ""
    if document["changes"] is None:
        yield "The revision before it was deleted, so what this one changed is not known."
    elif document["changes"]:
        yield from _changes(document["changes"])
    else:
        yield "It changed nothing."
