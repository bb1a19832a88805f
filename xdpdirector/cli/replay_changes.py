# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector replay --diff`: what another configuration would change for the flows of a capture."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from xdpdirector.cli.context import Format
from xdpdirector.cli.progress import with_progress
from xdpdirector.cli.render import Parts, answer, number, plural, table
from xdpdirector.errors import CaptureError

if TYPE_CHECKING:
    from xdpdirector.replay.flow_diff import Changes


def show(
    path: Path,
    before: Path,
    after: Path,
    *,
    down: Collection[str],
    macs: Collection[str],
    at: float | None,
    output: Format,
) -> None:
    """Write it, and exit with 1 if a flow goes to another backend."""
    from xdpdirector.config import config_file
    from xdpdirector.replay.assumptions import Premises, backends_of, macs_of
    from xdpdirector.replay.capture import Capture
    from xdpdirector.replay.flow_diff import Changes
    from xdpdirector.replay.side_by_side import SideBySide

    changes = Changes()
    premises = Premises(down=backends_of(down), own=macs_of(macs))
    with ExitStack() as stack:
        capture = stack.enter_context(Capture(path))
        configurations = config_file.load(before), config_file.load(after)
        both = stack.enter_context(SideBySide(*configurations, premises=premises, at=at))
        try:
            for piece in with_progress(capture, both.judge(capture)):
                changes.add(piece.batch, piece.before, piece.after)
        except CaptureError:  # what was good before it is worth to be known
            _write(output, changes)
            raise
    _write(output, changes)
    if changes.frames:
        raise typer.Exit(1)


def _write(output: Format, changes: Changes) -> None:
    document = changes.document()
    answer(output, document, lambda: _parts(document))


def _parts(document: dict[str, Any]) -> Parts:
    if not document["frames"]:
        yield f"nothing would change: {plural(document['flows'], 'flow')} stay where they are"
        return
    yield f"{number(document['moved'])} of {plural(document['flows'], 'flow')} would go elsewhere"
    for rows, what in ((document["moves"], "flows"), (document["others"], "frames")):
        if rows:
            yield ""
            yield _rows(rows, what)


def _rows(rows: list[dict[str, Any]], what: str) -> Any:
    shown = table(f">{what.upper()} FROM TO")
    for row in rows:
        shown.add_row(number(row[what]), row["from"], row["to"])
    return shown
