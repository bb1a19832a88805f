# SPDX-License-Identifier: Apache-2.0
"""Daemons by the hundred: a process that has imported all of one and forks a new one whenever it is told to.

What is forked is the daemon, whole, as `xdpdirector run` starts it; only the import is done once for all of them.
As a program: FORKSERVER INSTANCE CONFIGURATION; each line of its input starts a daemon, each line of its output is
a daemon's process id.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

from xdpdirector.client import Client
from xdpdirector.errors import DirectorError, TimedOutError
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import Host
from xdpdirector.lab.processes import Process
from xdpdirector.lab.waiting import wait_until
from xdpdirector.paths import InstancePaths


class ForkServer:
    """On a host of a lab. A context manager; it ends with all it has started."""

    def __init__(self, host: Host, paths: InstancePaths, configuration: Path) -> None:
        self.client = Client(paths.socket, instance=paths.name)
        command = [sys.executable, __file__, paths.name, str(configuration)]
        self._child = host.popen(*command, role="daemons", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._daemon: Process | None = None
        self.log = host.log("daemons")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self._child.stdin
        self._child.stdin.close()
        self._child.wait(timeout=10)

    def start(self, within: float) -> Process:
        """A daemon that is ready within so many seconds; LabError when it is not."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        self._daemon = daemon = Process.of(int(self._child.stdout.readline()))
        try:
            wait_until(lambda: self._ready or not daemon.alive, "the daemon is ready", within, interval=0.03)
        except TimedOutError as error:
            raise LabError(f"{error}: {self._last_words()}") from error
        if not daemon.alive:
            raise LabError(f"the daemon ended: {self._last_words()}")
        return daemon

    def gone(self, within: float = 10.0) -> None:
        wait_until(lambda: not self._daemon or not self._daemon.alive, "the end", within, interval=0.002)

    def kill(self) -> None:
        """SIGKILL."""
        if self._daemon:
            with suppress(ProcessLookupError):
                os.kill(self._daemon.pid, 9)
            self.gone()

    def _last_words(self) -> str:
        """What it said, and where it stands if it does not go on."""
        if self._daemon and self._daemon.send(signal.SIGUSR2):
            wait_until(lambda: "most recent call first" in self.log.read_text(errors="replace"), "a trace")
        return self.log.read_text(errors="replace")[-3000:]

    @property
    def _ready(self) -> bool:
        try:
            return bool(self.client.get("/readyz")["ready"])
        except DirectorError:
            return False


def main(instance: str, configuration: str) -> None:
    from xdpdirector.cli import main as command

    for name in ("cli.app", "daemon.startup", "daemon.lifecycle"):  # now, for all of them
        import_module(f"xdpdirector.{name}")
    print_to, nothing = os.dup(1), os.open(os.devnull, os.O_RDWR)
    os.dup2(2, 1)
    running = 0
    for _ in iter(sys.stdin.readline, ""):
        if running:
            os.waitpid(running, 0)
        running = os.fork()
        if running:
            os.write(print_to, f"{running}\n".encode())
            continue
        os.dup2(nothing, 0)
        faulthandler.register(signal.SIGUSR2)
        try:
            os._exit(command(["--instance", instance, "run", "--config", configuration]))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if running:
        os.waitpid(running, 0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
