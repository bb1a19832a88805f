# SPDX-License-Identifier: Apache-2.0
"""One capture through two directors that differ in their configuration, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple, Self

import numpy as np

from xdpdirector.dataplane.maps import Array
from xdpdirector.model import Configuration
from xdpdirector.replay import sandbox
from xdpdirector.replay.assumptions import Premises
from xdpdirector.replay.batch import Batch, runnable
from xdpdirector.replay.capture import Capture
from xdpdirector.replay.clock import Passing
from xdpdirector.replay.outcomes import Decisions
from xdpdirector.replay.simulator import Simulator


class Compared(NamedTuple):
    """Some frames, and what became of them without the change and with it."""

    batch: Batch
    seconds: Array
    before: Decisions
    after: Decisions


class SideBySide:
    """A context manager, for one capture after the other. The other configuration is there from the begin, or is
    applied `at` so many seconds of the capture, as a running director applies it: connections go on as they can."""

    def __init__(
        self,
        before: Configuration,
        after: Configuration,
        *,
        premises: Premises | None = None,
        at: float | None = None,
    ) -> None:
        """InvalidRequestError when the premises name a backend that neither has."""
        self.before, self.after, self.at = before, after, at
        self._premises = premises or Premises()
        self._premises.within(before, after)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with sandbox.loading([self.before.sizes, self.after.sizes]) as both:
            self._simulators = [self._stack.enter_context(Simulator(loaded)) for loaded in both]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def judge(self, capture: Capture) -> Iterator[Compared]:
        """Piece by piece; each is valid until the next. CaptureError, DataplaneError."""
        one, other = self._simulators
        of_one, of_other = self._premises.within(self.before, self.after)
        passing = Passing()
        one.begin(self.before, of_one)
        is_changed = self.at is None
        other.begin(*(self.after, of_other) if is_changed else (self.before, of_one))
        for whole in capture.batches():
            times = passing.seconds(whole.times)
            change = int(np.searchsorted(times, self.at)) if self.at is not None and not is_changed else 0
            for batch in whole.split(change):
                begin = batch.number - whole.number
                seconds = times[begin : begin + len(batch)]
                if not is_changed and self.at is not None and seconds[0] >= self.at:
                    other.change(self.after, of_other)
                    is_changed = True
                given = runnable(batch)
                yield Compared(batch, seconds, one.run(given, seconds), other.run(given, seconds))
