# SPDX-License-Identifier: Apache-2.0
"""A daemon that runs in the foreground on a host of the lab, with a configuration file of its own."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from xdpdirector.lab.host import Host
from xdpdirector.lab.processes import Process, stop


class HostDaemon:
    """One daemon. `role`: the name of its directory and its log."""

    def __init__(self, host: Host, role: str) -> None:
        self.directory = host.directory(role)
        self._host, self._role = host, role
        self._child: subprocess.Popen[str] | None = None

    def run(self, *command: str) -> None:
        self._child = self._host.popen(*command, role=self._role)

    def write(self, name: str, configuration: str) -> Path:
        file = self.directory / name
        file.write_text(configuration)
        return file

    def stop(self) -> None:
        """As `systemctl stop`: it says goodbye to its peers."""
        if self._child:
            stop(Process.of(self._child.pid), grace=10.0)
            self._child.wait(timeout=5)
            self._child = None

    def kill(self) -> None:
        """As a machine that loses its power: it says nothing to its peers."""
        if self._child:
            for pid in (self._child.pid, *self.children()):
                Process.of(pid).send(signal.SIGKILL)
            self._child.wait(timeout=5)
            self._child = None

    def children(self) -> Iterable[int]:
        """Processes of its own that outlive it when it is killed."""
        return ()
