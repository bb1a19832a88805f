# SPDX-License-Identifier: Apache-2.0
"""What something costs: instructions of the interpreter are counted, as no clock of a busy machine is as sure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Self


class Instructions:
    """Counts those of this thread, of functions that are called inside the `with`."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Self:
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame: FrameType, event: str, _argument: Any) -> Callable[..., Any]:
        frame.f_trace_opcodes = True
        self.count += event == "opcode"
        return self._trace


def instructions(work: Callable[[], object]) -> int:
    """How many the interpreter carries out for it."""
    with Instructions() as counted:
        work()
    return counted.count
