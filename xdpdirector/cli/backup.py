# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector backup` and `xdpdirector restore`: one file with configuration, state and tokens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpdirector.cli.context import ConfigurationFile, Format, Output, target
from xdpdirector.cli.render import Parts, answer, moment, table
from xdpdirector.errors import InvalidRequestError
from xdpdirector.paths import InstancePaths

if TYPE_CHECKING:
    from xdpdirector.storage.backup import Backup

File = Annotated[Path, typer.Argument(metavar="FILE", help="- is the standard stream.", show_default=False)]


def backup(context: typer.Context, file: File, config: ConfigurationFile = None) -> None:
    """Write configuration, state (services, revisions, drains, deny list) and tokens into one file.

    The daemon may run: what it writes meanwhile is in it completely or not at all. The file has secrets: only its
    owner may read it.
    """
    from xdpdirector.storage import backup as backups
    from xdpdirector.system import files

    chosen = target(context)
    taken = backups.take(InstancePaths(chosen.instance), chosen.configuration(config))
    if file == Path("-"):
        if sys.stdout.isatty():
            raise InvalidRequestError("a backup is not written to a terminal: name a file")
        taken.write(sys.stdout.buffer)
    else:
        try:
            with files.replacing(file, 0o600) as opened:
                taken.write(opened)
        except OSError as error:
            raise InvalidRequestError(f"{file} cannot be written: {error.strerror}") from error
    for name, reason in taken.missing.items():
        print(f"{name} is not in the backup: {reason}", file=sys.stderr)


def restore(
    context: typer.Context,
    file: File,
    config: ConfigurationFile = None,
    list_: Annotated[bool, typer.Option("--list", help="Say what it holds, and change nothing.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Files that are there and differ get another name.")
    ] = False,
    output: Output = Format.TABLE,
) -> None:
    """Put back what `xdpdirector backup` wrote; no daemon of the instance may run.

    All of it is checked before anything is written. The next `load` and `run` serve what it says.
    """
    from xdpdirector.daemon import startup
    from xdpdirector.storage import backup as backups

    chosen = target(context)
    paths = InstancePaths(chosen.instance)
    try:
        with open(0, "rb", closefd=False) if file == Path("-") else file.open("rb") as opened:
            found = backups.read(opened, str(file))
    except OSError as error:
        raise InvalidRequestError(f"{file} cannot be read: {error.strerror}") from error
    if list_:
        answer(output, _document(found), lambda: _contents(found))
        return
    with startup.only_one(paths):
        aside = backups.restore(found, paths, chosen.configuration(config), replace=replace)
    for path in aside:
        print(f"what was there before is now {path}")
    print(
        f"restored what instance '{found.instance}' of {found.host} was on {found.created:%Y-%m-%d %H:%M:%S} UTC"
    )
    for name, reason in found.missing.items():
        print(f"{name} was not in the backup ({reason}): provide it", file=sys.stderr)


def _document(found: Backup) -> dict[str, object]:
    return {
        "instance": found.instance,
        "host": found.host,
        "created": found.created.isoformat(),
        "version": found.version,
        "members": [{"name": name, "octets": octets} for name, octets in _members(found)],
        "missing": [{"name": name, "reason": reason} for name, reason in found.missing.items()],
    }


def _members(found: Backup) -> list[tuple[str, int]]:
    kept = [("configuration", len(found.configuration.content))]
    kept += [(str(path), len(file.content)) for path, file in found.files.items()]
    return kept + [(name, len(content)) for name, content in found.state.items()]


def _contents(found: Backup) -> Parts:
    rows = table("MEMBER OCTETS")
    for name, octets in _members(found):
        rows.add_row(name, str(octets))
    created = moment(found.created.isoformat())
    return [f"Instance '{found.instance}' of {found.host}, {created}, release {found.version}", rows]
