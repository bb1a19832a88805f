# SPDX-License-Identifier: Apache-2.0
"""keepalived on a director of the lab, with the configuration that `xdpdirector keepalived-config` writes."""

from __future__ import annotations

import signal
import subprocess

from xdpdirector.lab.host import Host
from xdpdirector.lab.processes import Process, stop

ROLE = "keepalived"


class Keepalived:
    """One daemon; VRRP only."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._directory = host.directory(ROLE)
        self._child: subprocess.Popen[str] | None = None

    def start(self, configuration: str) -> None:
        file = self._directory / "keepalived.conf"
        file.write_text(configuration)
        for stale in self._directory.glob("*.pid"):
            stale.unlink()
        self._child = self._host.popen(
            "keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={file}",
            f"--pid={self._directory}/main.pid", f"--vrrp_pid={self._directory}/vrrp.pid", role=ROLE,
        )  # fmt: skip

    def stop(self) -> None:
        """As `systemctl stop`: it announces its end to the others, and removes the VIPs."""
        if self._child:
            stop(Process.of(self._child.pid), grace=10.0)
            self._child.wait(timeout=5)
            self._child = None

    def kill(self) -> None:
        """As a machine that loses its power: nothing is announced. The VIPs stay where they were."""
        if self._child is None:
            return
        children = [int(each.read_text()) for each in self._directory.glob("vrrp.pid")]
        for pid in (self._child.pid, *children):
            Process.of(pid).send(signal.SIGKILL)
        self._child.wait(timeout=5)
        self._child = None
