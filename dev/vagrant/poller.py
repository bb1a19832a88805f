# SPDX-License-Identifier: Apache-2.0
"""Somebody who keeps asking a web server from one of the machines, and what was answered when. Reads lines only."""

from __future__ import annotations

import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

NOBODY = "-"  # printed instead of an answer
PATIENCE = 3  # seconds that one request may take


@dataclass(frozen=True)
class Answer:
    """`at`: when it was heard of, on the host's monotonic clock; `by`: who answered, NOBODY when none did."""

    at: float
    by: str


def asking(address: str, pause: float = 0.2) -> str:
    """The shell script that asks for ever, each time on a new connection, and prints a line for each answer."""
    ask = f"curl -sf --max-time {PATIENCE} http://{address}/ || echo {NOBODY}"
    return f"while :; do {ask}; sleep {pause:g}; done"


class Visitor:
    """A context manager: `command` prints a line for each answer, inside the block."""

    def __init__(self, command: list[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._command, self._clock = command, clock
        self._answers: list[Answer] = []

    def __enter__(self) -> Self:
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.kill()
        self._child.wait()
        self._thread.join()
        if self._child.stdout:
            self._child.stdout.close()

    def _listen(self) -> None:
        for line in self._child.stdout or ():
            self._answers.append(Answer(self._clock(), line.strip()))

    def since(self, moment: float) -> list[Answer]:
        """What was heard after a moment of the clock."""
        return [answer for answer in self._answers if answer.at > moment]


def counts(names: Iterable[str]) -> str:
    """`backend1 10, backend2 9`"""
    return ", ".join(f"{name} {number}" for name, number in sorted(Counter(names).items())) or "nothing"


def gap(answers: Iterable[Answer]) -> float:
    """Seconds from the first request that nobody answered to the first answer after the last of them; 0 when there
    was none."""
    listed = list(answers)
    failed = [answer.at for answer in listed if answer.by == NOBODY]
    if not failed:
        return 0.0
    after = [answer.at for answer in listed if answer.by != NOBODY and answer.at > failed[-1]]
    return (after[0] if after else listed[-1].at) - failed[0] + PATIENCE
