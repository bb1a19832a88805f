# SPDX-License-Identifier: Apache-2.0
"""Frames that somebody is going to send, through the packet program beforehand: what becomes of each, and how it
leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from xdpdirector.model import Configuration
from xdpdirector.replay import sandbox
from xdpdirector.replay.assumptions import Premises
from xdpdirector.replay.batch import ROOM, Runnable
from xdpdirector.replay.outcomes import Decision
from xdpdirector.replay.simulator import Simulator


def rehearse(
    configuration: Configuration, premises: Premises, frames: Sequence[bytes], due: Sequence[int]
) -> Iterator[tuple[Decision, bytes]]:
    """Whole frames of at most ROOM bytes, and when each is due, in nanoseconds."""
    rows = np.zeros((len(frames), ROOM), np.uint8)
    for row, frame in zip(rows, frames, strict=True):
        row[: len(frame)] = np.frombuffer(frame, np.uint8)
    lengths = np.array([len(frame) for frame in frames], np.uint32)
    left: list[bytes] = []
    with sandbox.loading([configuration.sizes]) as (loaded,):
        simulator = Simulator(loaded)
    with simulator:
        simulator.begin(configuration, premises)
        given = Runnable(rows, lengths, np.arange(len(frames)))
        decisions = simulator.run(given, np.array(due, np.float64) / 1e9, left)
    for place, frame in enumerate(left):
        yield decisions[place], frame
