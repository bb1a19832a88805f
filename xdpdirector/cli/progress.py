# SPDX-License-Identifier: Apache-2.0
"""How far a capture is read, for who looks on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from xdpdirector.replay.batch import Batch
    from xdpdirector.replay.capture import Capture


class HasBatch(Protocol):
    """What became of some frames."""

    @property
    def batch(self) -> Batch: ...


_LARGE = 100_000  # frames
Piece = TypeVar("Piece", bound=HasBatch)


def with_progress(capture: Capture, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """A progress bar on standard error, if that is a terminal; for a large file, the speed at the end."""
    began, frames = time.monotonic(), 0
    shown = _bar(capture, pieces) if capture.size and sys.stderr.isatty() else pieces
    for piece in shown:
        frames += len(piece.batch)
        yield piece
    seconds = time.monotonic() - began
    if frames >= _LARGE:
        print(f"{frames:,} frames in {seconds:.1f} s: {frames / seconds:,.0f} a second", file=sys.stderr)


def _bar(capture: Capture, pieces: Iterable[Piece]) -> Iterator[Piece]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("frames", total=capture.size)
        for piece in pieces:
            yield piece
            seen = piece.batch.number + len(piece.batch) - 1
            progress.update(task, completed=capture.position(), description=f"{seen:,} frames")
