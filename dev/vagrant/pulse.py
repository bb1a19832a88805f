# SPDX-License-Identifier: Apache-2.0
"""A machine's monotonic clock, asked all the time over one connection: what time it is there, and when the machine
did nothing. An emulated machine stands still when the host is busy. Reads lines only.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Self

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until

SCRIPT = "exec python3 -u -c 'import sys, time\nfor _ in sys.stdin: print(time.monotonic(), flush=True)'"
"""The shell script that answers each line with the time."""
EVERY = 0.5  # seconds between two questions
KEPT = 60  # questions, of which the one that was answered the soonest says how far the clocks are apart
STARTING = 120.0


class Pulse:
    """Inside the `with` block: `command` answers each line of its input with seconds of the machine's clock."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._answers: deque[tuple[float, float]] = deque(maxlen=KEPT)
        """How long each took, and the machine's clock less ours."""
        self._asked: float | None = None
        self._longest = 0.0
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        try:
            wait_until(
                lambda: self._answers or self._ended.is_set(), "the machine says its time", STARTING, 0.05
            )
            if not self._answers:
                raise LabError(f"'{' '.join(self._command)}' says no time")
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._ended.set()
        self._child.kill()
        self._child.wait()
        self._thread.join()
        for stream in (self._child.stdin, self._child.stdout):
            with suppress(OSError):  # a question that is not sent any more
                if stream:
                    stream.close()

    def _ask(self) -> None:
        questions, answers = self._child.stdin, self._child.stdout
        assert questions
        assert answers
        while not self._ended.is_set():
            self._asked = asked = time.monotonic()
            try:
                print(file=questions, flush=True)
                there = float(answers.readline())
            except (OSError, ValueError):  # its end
                break
            self._asked, heard = None, time.monotonic()
            self._answers.append((heard - asked, there - (asked + heard) / 2))
            self._longest = max(self._longest, heard - asked)
            self._ended.wait(EVERY)
        self._ended.set()

    def now(self) -> float:
        """The machine's clock."""
        _, apart = min(list(self._answers))
        return time.monotonic() + apart

    def stood_still(self) -> float:
        """Seconds: the longest that an answer took since this was asked before, one that is awaited included."""
        asked = self._asked
        waiting = 0.0 if asked is None else time.monotonic() - asked
        longest, self._longest = max(self._longest, waiting), 0.0
        return longest
