# SPDX-License-Identifier: Apache-2.0
"""The monotonic clock of another machine, by samples over one connection: its offset from ours, and how long the
machine stalled. An emulated machine stalls when the host is busy. Reads lines only.

As in NTP (RFC 5905, section 10) the offset is taken of the sample with the shortest round trip.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until

CLOCK_SERVER = (
    "exec python3 -u -c 'import sys, time\nfor _ in sys.stdin: print(time.monotonic(), flush=True)'"
)
"""The shell script that answers each line with the time."""
INTERVAL = 0.5  # seconds between two samples
SAMPLES = 60  # the latest ones, of which the offset is taken
FIRST_SAMPLE = 120.0  # seconds in which it must come


class Sample(NamedTuple):
    """Seconds. `offset`: the machine's clock less ours."""

    round_trip: float
    offset: float


class RemoteClock:
    """Inside the `with` block: `command` answers each line of its input with seconds of the machine's clock."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._sent: float | None = None
        """When the request that is not answered yet was sent, by our clock."""
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
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        try:
            wait_until(lambda: self._samples or self._ended.is_set(), "its clock answers", FIRST_SAMPLE, 0.05)
            if not self._samples:
                raise LabError(f"the machine's clock does not answer: '{' '.join(self._command)}' ended")
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
            with suppress(OSError):  # a request that is not sent any more
                if stream:
                    stream.close()

    def _sample(self) -> None:
        requests, replies = self._child.stdin, self._child.stdout
        assert requests
        assert replies
        while not self._ended.is_set():
            self._sent = sent = time.monotonic()
            try:
                print(file=requests, flush=True)
                remote = float(replies.readline())
            except (OSError, ValueError):  # its end
                break
            self._sent, received = None, time.monotonic()
            self._samples.append(Sample(received - sent, remote - (sent + received) / 2))
            self._longest = max(self._longest, received - sent)
            self._ended.wait(INTERVAL)
        self._ended.set()

    def now(self) -> float:
        """Seconds of the machine's clock."""
        return time.monotonic() + min(list(self._samples)).offset

    def longest_stall(self) -> float:
        """Seconds: the longest round trip since this was asked before, one that is under way included."""
        sent = self._sent
        waiting = 0.0 if sent is None else time.monotonic() - sent
        longest, self._longest = max(self._longest, waiting), 0.0
        return longest
