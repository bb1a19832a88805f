# SPDX-License-Identifier: Apache-2.0
"""Runs the packet program on frames, thousands in one system call: see bpf/replay.c.

Knows the maps of that file, and the kernel; nothing of services, captures or time.
"""

from __future__ import annotations

import mmap
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from xdpdirector import libbpf
from xdpdirector.dataplane.maps import Array, dtype_of
from xdpdirector.errors import DataplaneError
from xdpdirector.loader.layout import Loaded

LOOPBACK = 1  # in every network namespace; nothing is sent there
_ANY = bytes(64)
_FEW = 3000  # a repeated run waits for all processors at its begin (bpf_prog_change_xdp): 16 ms, seen here
_FIRST = np.uint32(0).tobytes()


class Engine:
    """Opens what bpf/replay.c made. Close it, or use it as a context manager."""

    def __init__(self, loaded: Loaded) -> None:
        self._memory: list[mmap.mmap] = []
        self._fds: list[int] = []
        try:
            self._frames = self._shared(loaded, "replayed")
            self._bytes = _octets(self._frames)
            self._outcomes = self._shared(loaded, "outcomes")
            self._state = self._shared(loaded, "replays")
            self._program = self._opened(loaded, loaded.program.with_name("replay"))
            director = self._opened(loaded, loaded.program)
            replaying = self._opened(loaded, loaded.pins / "replaying")
            self._once = libbpf.RepeatedRun(self._program, LOOPBACK)
            libbpf.update(replaying, _FIRST, np.uint32(director).tobytes())
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for view in ("_bytes", "_frames", "_outcomes", "_state"):
            self.__dict__.pop(view, None)
        while self._memory:
            self._memory.pop().close()
        while self._fds:
            os.close(self._fds.pop())

    @property
    def outcome(self) -> np.dtype[Any]:
        """Of what `run` returns."""
        return self._outcomes.dtype

    @property
    def most(self) -> int:
        """Frames in one run."""
        return len(self._frames)

    def run(self, frames: Array, lengths: Array, jiffies: Array, left: list[bytes] | None = None) -> Array:
        """Frames in rows, at most `most` of them, of these lengths, each at its time; what became of them, as
        `struct outcome` says it. Each frame as it left goes to `left`, when that is asked for.

        DataplaneError when the kernel does not run the program on them.
        """
        count = len(lengths)
        width = int(lengths.max(initial=0))
        self._bytes[:count, :width] = frames[:count, :width]
        self._frames["length"][:count] = lengths
        self._frames["now"][:count] = jiffies
        self._state["turn"] = 0
        try:
            with _on_one_processor():
                self._run(count, left)
        except OSError as error:
            raise DataplaneError(f"the kernel does not run the program: {error}") from error
        if int(self._state["turn"][0]) != count:
            raise DataplaneError(
                f"the program stopped at frame {int(self._state['turn'][0])} of {count}: please report it"
            )
        return self._outcomes[:count].copy()

    def _run(self, count: int, left: list[bytes] | None) -> None:
        if left is not None:
            left += [self._once(_ANY)[1] for _ in range(count)]
        elif count < _FEW:
            self._once.blindly(_ANY, count)
        else:
            with _uninterrupted():
                libbpf.prog_test_run(self._program, _ANY, LOOPBACK, repeat=count)

    def _opened(self, loaded: Loaded, path: object) -> int:
        fd = libbpf.obj_get(str(path))
        self._fds.append(fd)
        return fd

    def _shared(self, loaded: Loaded, name: str) -> Array:
        said = loaded.maps[name]
        stride = (said["value_size"] + 7) & ~7
        size = (said["max_entries"] * stride + mmap.PAGESIZE - 1) & ~(mmap.PAGESIZE - 1)
        with libbpf.opened(loaded.pins / name) as fd:
            memory = mmap.mmap(fd, size)
        self._memory.append(memory)
        return np.frombuffer(memory, dtype_of(said["value"], stride=stride), said["max_entries"])


def _octets(frames: Array) -> Array:
    """Their field `bytes`, a row for each."""
    start = int(frames.dtype.fields["bytes"][1])  # type: ignore[index]
    rows = frames.view(np.uint8).reshape(len(frames), -1)
    return rows[:, start : start + frames.dtype["bytes"].itemsize]


@contextmanager
def _on_one_processor() -> Iterator[None]:
    """Always the same one: some of the program's counts are a processor's own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A signal would end a repeated test-run half-way (net/bpf/test_run.c): it has to wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
