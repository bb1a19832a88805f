# SPDX-License-Identifier: Apache-2.0
"""A capture once more, with a comment on each frame that says what became of it."""

from __future__ import annotations

from typing import IO

from xdpdirector.replay.batch import Batch
from xdpdirector.replay.outcomes import Decisions
from xdpdirector.replay.pcapng import Writer

INTERFACE = "replay"


class AnnotatedCapture:
    """pcapng, for Wireshark: the frames as they came."""

    def __init__(self, file: IO[bytes]) -> None:
        self._writer = Writer(file)

    def add(self, batch: Batch, decisions: Decisions) -> None:
        for place in range(len(batch)):
            self._writer.packet(
                batch.frame(place),
                int(batch.lengths[place]),
                int(batch.times[place]) / 1e9,
                INTERFACE,
                str(decisions[place]),
            )
