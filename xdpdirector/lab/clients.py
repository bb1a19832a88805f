# SPDX-License-Identifier: Apache-2.0
"""HTTP clients of a lab at work: the load generator as a process on a host, and what it reports."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

from xdpdirector.errors import TimedOutError
from xdpdirector.lab.host import Host
from xdpdirector.lab.processes import Process, stop
from xdpdirector.lab.sample import Request
from xdpdirector.lab.waiting import wait_until

ROLE = "load"


class Clients:
    """Running inside the `with` block. Options are those of `xdpdirector.lab.load`."""

    def __init__(
        self,
        host: Host,
        targets: list[str],
        *,
        rate: float = 200.0,
        kept: int = 4,
        pause: float = 0.1,
        reuse: int = 20,
        timeout: float = 3.0,
        longest: float = 300.0,
    ) -> None:
        self.rate, self.timeout = rate, timeout
        self._host = host
        self._output = host.directory(ROLE) / "requests.jsonl"
        self._position = 0
        self._requests: list[Request] = []
        self._child: subprocess.Popen[str] | None = None
        self._command = [sys.executable, "-m", "xdpdirector.lab.load", *targets]
        numbers = {"rate": rate, "kept": kept, "pause": pause, "reuse": reuse}
        for option, value in {**numbers, "timeout": timeout, "duration": longest}.items():
            self._command += [f"--{option}", f"{value:g}"]

    def __enter__(self) -> Self:
        self._output.unlink(missing_ok=True)
        with self._output.open("w") as output:
            self._child = self._host.popen(*self._command, role=ROLE, stdout=output)
        try:
            wait_until(self._begun, "the clients' first request", 10.0)
        except TimedOutError:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _begun(self) -> bool:
        return self._output.stat().st_size > 0

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def stop(self) -> None:
        """No more requests; those under way are waited for."""
        if self._child:
            stop(Process.of(self._child.pid), grace=self.timeout + 5.0)
            self._child.wait(timeout=5)

    def requests(self) -> list[Request]:
        """All that have ended so far."""
        with self._output.open() as file:
            file.seek(self._position)
            text = file.read()
        whole = text.rfind("\n") + 1
        self._position += len(text[:whole].encode())
        self._requests += [Request.from_line(line) for line in text[:whole].splitlines()]
        return list(self._requests)
