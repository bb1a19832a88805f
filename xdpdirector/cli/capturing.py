# SPDX-License-Identifier: Apache-2.0
"""How far a capture is read, for who looks on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from xdpdirector.replay.capture import Capture
    from xdpdirector.replay.frames import Batch


class HasBatch(Protocol):
    """What became of some frames."""

    @property
    def batch(self) -> Batch: ...


Piece = TypeVar("Piece", bound=HasBatch)


def with_progress(capture: Capture, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """A bar on standard error while somebody looks on."""
    if not (capture.size and sys.stderr.isatty()):
        yield from pieces
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("frames", total=capture.size)
        for piece in pieces:
            yield piece
            seen = piece.batch.number + len(piece.batch) - 1
            progress.update(task, completed=capture.position(), description=f"{seen:,} frames")
