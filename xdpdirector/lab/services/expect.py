# SPDX-License-Identifier: Apache-2.0
"""A session of a client program on a host, by pipes: write, read, end. Knows no protocol.

Output that is not read stays in the pipe, so a client that downloads stops until it is read again.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
import time
from collections.abc import Mapping
from typing import IO, Protocol

from xdpdirector.errors import TimedOutError
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.services.service_def import Script

PATIENCE = 20.0  # seconds for an answer on a busy machine
_READ = 4096
_WORDS = 300  # characters of a client's last words


class SessionEndedError(LabError):
    """The client program ended, or said something else than an answer; `detail` holds its last words."""


class Starter(Protocol):
    """As much of a host as is needed."""

    def popen(
        self,
        *command: str,
        role: str,
        stdin: int | IO[str],
        stdout: int | IO[str] | None,
        stderr: int | IO[str] | None,
        environment: Mapping[str, str] | None,
    ) -> subprocess.Popen[str]: ...


class Dialogue:
    """One running client. A context manager that kills it in the end."""

    def __init__(self, host: Starter, script: Script, role: str = "session") -> None:
        self._script = script
        self._heard = ""
        self._child = host.popen(
            *script.command,
            role=role,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            environment=script.environment,
        )
        assert self._child.stdin
        assert self._child.stdout
        self._typed, self._shown = self._child.stdin.fileno(), self._child.stdout.fileno()
        os.set_blocking(self._typed, False)

    def __enter__(self) -> Dialogue:
        self.say(self._script.opening)
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait(timeout=5)
        self._hang_up()
        assert self._child.stdout
        self._child.stdout.close()

    def say(self, text: str) -> None:
        """Write to its standard input. That the client has ended is noticed by the next read."""
        with contextlib.suppress(OSError):
            os.write(self._typed, text.encode())

    def ask(self, timeout: float = PATIENCE) -> str:
        """The backend that answers the question now."""
        self.say(self._script.question)
        return self.hear(timeout)

    def hear(self, timeout: float = PATIENCE) -> str:
        """The backend that has answered. SessionEndedError at the client's end, TimedOutError without an answer."""
        deadline = time.monotonic() + timeout
        while True:
            found = self._script.answer.search(self._heard)
            if found:
                self._heard = self._heard[found.end() :]
                return found["backend"]
            if not self._read(deadline):
                raise SessionEndedError(self.words or "it ended without a word")

    def finish(self, timeout: float = PATIENCE) -> None:
        """End the session and wait; SessionEndedError if the client fails."""
        self.say(self._script.farewell)
        self._hang_up()
        deadline = time.monotonic() + timeout
        while self._read(deadline):
            self._heard = self._heard[-_READ:]
        status = self._child.wait(timeout=max(0.1, deadline - time.monotonic()))
        if status:
            raise SessionEndedError(f"status {status}: {self.words}")
        if self._script.parting and not self._script.parting.search(self._heard):
            raise SessionEndedError(f"it ended too early: {self.words}")

    @property
    def words(self) -> str:
        """The last line that was no answer."""
        lines = [line.strip() for line in self._heard.splitlines() if line.strip()]
        return re.sub(r"\s+", " ", lines[-1])[-_WORDS:] if lines else ""

    def _read(self, deadline: float) -> bool:
        """Read more; False at the end."""
        ready, _, _ = select.select([self._shown], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimedOutError(f"no answer in time; last words: {self.words!r}")
        data = os.read(self._shown, _READ)
        self._heard += data.decode(errors="replace")
        return bool(data)

    def _hang_up(self) -> None:
        assert self._child.stdin
        with contextlib.suppress(OSError):
            self._child.stdin.close()
