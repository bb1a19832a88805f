# SPDX-License-Identifier: Apache-2.0
"""Frames of a capture, some thousand at a time, and how one that the kernel does not take as it is, is made to fit.

Pure: knows how frames lie in memory, not where they come from or what becomes of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xdpdirector.dataplane.maps import Array
from xdpdirector.replay.describe import is_judgeable, shortened

ROOM = 3520  # what the kernel's test-run takes; bpf/replay.c has it, too
LEAST = 14  # an Ethernet header
_HEADERS = 512  # where all lengths are that the program reads


@dataclass(frozen=True)
class Batch:
    """`number` is the first frame's, counted from 1. By frame: `times` in nanoseconds since the epoch, `captured`
    bytes, `lengths` on the wire, and the captured bytes in a row of ROOM of `frames`."""

    number: int
    times: Array
    captured: Array
    lengths: Array
    frames: Array

    def __len__(self) -> int:
        return len(self.times)

    def split(self, place: int) -> list[Batch]:
        """The frames before that place, and those from it on; what is empty is left out."""
        parts = (slice(0, place), slice(place, len(self)))
        return [
            Batch(
                self.number + part.start,
                self.times[part],
                self.captured[part],
                self.lengths[part],
                self.frames[part],
            )
            for part in parts
            if part.start < part.stop
        ]

    def frame(self, place: int) -> bytes:
        """As it was captured, but no more than ROOM bytes."""
        return self.frames[place, : self.captured[place]].tobytes()


@dataclass(frozen=True)
class Runnable:
    """What of a batch the program is given: `frames` with `lengths`, whole ones. `places` of them in the batch."""

    frames: Array
    lengths: Array
    places: Array = field(default_factory=lambda: np.zeros(0, np.int64))


def runnable(batch: Batch) -> Runnable:
    """A frame that was cut by the capture is filled up with zeros to its length on the wire, and one that is longer
    than ROOM is made shorter, with the lengths in its headers. One whose headers are not all there is left out.

    Changes the frames of the batch behind what was captured of them.
    """
    lengths = np.minimum(batch.lengths, ROOM).astype(np.uint32)
    fits = np.ones(len(batch), bool)
    for place in np.flatnonzero((batch.captured != batch.lengths) | (batch.captured < LEAST)).tolist():
        captured, length = int(batch.captured[place]), int(batch.lengths[place])
        frame = batch.frames[place]
        frame[captured : lengths[place]] = 0
        fits[place] = is_judgeable(frame[:captured].tobytes(), length)
        if length > ROOM and fits[place]:
            head = shortened(frame[:_HEADERS].tobytes(), length - ROOM)
            frame[:_HEADERS] = np.frombuffer(head, np.uint8)
    places = np.flatnonzero(fits)
    if len(places) == len(batch):
        return Runnable(batch.frames, lengths, places)
    return Runnable(batch.frames[places], lengths[places], places)
