# SPDX-License-Identifier: Apache-2.0
"""A capture as batches of frames: a file, gzipped or not, or standard input. Bounded memory, whatever its size.

Knows files; nothing of what the frames say.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from xdpdirector.dataplane.maps import Array
from xdpdirector.errors import CaptureError
from xdpdirector.replay.batch import ROOM, Batch
from xdpdirector.replay.libpcap import Reader

STANDARD_INPUT = Path("-")
FRAMES = 8192  # in a batch
_GZIP = b"\x1f\x8b"


class Capture:
    """A context manager. CaptureError when it cannot be opened, or is no capture of Ethernet frames."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = _opened(path)
        self._gzip: subprocess.Popen[bytes] | None = None
        try:
            self.size = os.fstat(self._fd).st_size
            """In bytes; 0 when it is not known."""
            self._reader = Reader(self._plain())
        except CaptureError as error:
            wrong = self._unpacking_failed() or error.detail
            self._end()
            raise CaptureError(f"{path}: {wrong}") from error

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._end()

    def position(self) -> int:
        """How many bytes of the file are read."""
        return os.lseek(self._fd, 0, os.SEEK_CUR) if self.size else 0

    def batches(self, most: int = FRAMES) -> Iterator[Batch]:
        """All frames, up to `most` at a time; each batch is valid until the next, which is read meanwhile.

        CaptureError with the number of the packet that cannot be read, after all that come before it.
        """
        number, wrong = 1, None
        places = itertools.cycle([np.zeros((most, ROOM), np.uint8), np.zeros((most, ROOM), np.uint8)])
        with ThreadPoolExecutor(1) as reading:
            following = reading.submit(self._read, next(places))
            while wrong is None:
                found, frames, wrong = following.result()
                if wrong is None:
                    following = reading.submit(self._read, next(places))
                if found:
                    times, captured, lengths = np.array(found, np.int64).T
                    yield Batch(
                        number, times, np.minimum(captured, ROOM), np.maximum(lengths, captured), frames
                    )
                    number += len(found)
        wrong = self._unpacking_failed() or wrong
        if wrong:
            raise CaptureError(
                f"{self._path}: packet {number} cannot be read: {wrong}; {number - 1:,} before it are good",
                number=number,
            )

    def _read(self, frames: Array) -> tuple[list[tuple[int, int, int]], Array, str | None]:
        """See `Reader.read`."""
        found: list[tuple[int, int, int]] = []
        wrong = self._reader.read(frames.ctypes.data, ROOM, len(frames), found)
        return found, frames, wrong

    def _plain(self) -> int:
        """A descriptor of the capture itself, unpacked by gzip if it has to be."""
        if self.size and os.pread(self._fd, len(_GZIP), 0) != _GZIP:
            return os.dup(self._fd)
        # Of a pipe nothing can be looked at beforehand; --force hands on what is not compressed.
        self._gzip = subprocess.Popen(
            ["gzip", "-dc", *(() if self.size else ("--force",))],
            stdin=self._fd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._gzip.stdout is not None
        with self._gzip.stdout as pipe:
            return os.dup(pipe.fileno())

    def _unpacking_failed(self) -> str:
        """What gzip says at the end of what it could unpack."""
        if self._gzip is None or self._gzip.stderr is None or self._gzip.poll() == 0:
            return ""
        said = self._gzip.stderr.read().decode(errors="replace").strip()
        return " ".join(said.split()) if self._gzip.wait() else ""

    def _end(self) -> None:
        os.close(self._fd)
        if self._gzip:
            self._gzip.terminate()
            self._gzip.communicate()


def _opened(path: Path) -> int:
    if path == STANDARD_INPUT:
        return os.dup(0)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CaptureError(f"{path} cannot be opened: {error.strerror}") from error
    if path.is_dir():
        os.close(fd)
        raise CaptureError(f"{path} is a directory")
    return fd
