# SPDX-License-Identifier: Apache-2.0
"""FRR on a director of the lab, with the configuration that `xdpdirector frr-config` writes: the daemons that the
Debian package would run, and vtysh, which gives them their configuration.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from xdpdirector.ha import frr
from xdpdirector.lab.bird import announced
from xdpdirector.lab.host import Host
from xdpdirector.lab.host_daemon import HostDaemon
from xdpdirector.lab.topology import Node, Topology
from xdpdirector.lab.waiting import wait_until

ROLE = "frr"
PROGRAMS = Path("/usr/lib/frr")
DAEMONS = ("zebra", "bgpd", "bfdd")
USER = "frr"
SCRATCH = Path("/var/tmp/frr")
"""Where each daemon makes a directory, and leaves it when it is killed."""


class Frr:
    """Its daemons on one host, in a directory of their own."""

    def __init__(self, host: Host) -> None:
        self.directory = host.directory(ROLE)
        self._host = host
        self._daemons: list[HostDaemon] = []

    def start(self, configuration: str) -> None:
        """DirectorError when a daemon does not take it."""
        self.directory.mkdir(exist_ok=True)
        shutil.chown(self.directory, USER, USER)
        for stale in self.directory.iterdir():
            stale.unlink()
        (self.directory / "frr.conf").write_text(configuration)
        (self.directory / "vtysh.conf").touch()
        for name in DAEMONS:
            (self.directory / f"{name}.conf").touch()
            daemon = HostDaemon(self._host, ROLE)
            daemon.run(*self._command(name))
            self._daemons.append(daemon)
            wait_until((self.directory / f"{name}.vty").exists, f"{name} on {self._host.name} runs", 30.0)
        self.vtysh("-b")

    def _command(self, name: str) -> Iterator[str]:
        yield from (str(PROGRAMS / name), f"--config_file={self.directory}/{name}.conf", "--log=stdout")
        yield from (f"--pid_file={self.directory}/{name}.pid", f"--socket={self.directory}/zserv.api")
        yield from (f"--vty_socket={self.directory}", "--vty_port=0")
        if name == "bfdd":
            yield f"--bfdctl={self.directory}/bfdd.sock"

    def vtysh(self, *options: str) -> str:
        """What it says. DirectorError when a daemon refuses a line."""
        line = ["vtysh", "--vty_socket", str(self.directory), "--config_dir", str(self.directory), *options]
        return self._host.run(*line, timeout=30.0).stdout

    def scratch(self) -> list[Path]:
        """Of the daemons that run."""
        numbers = {file.stem: file.read_text().strip() for file in self.directory.glob("*.pid")}
        return [SCRATCH / f"{name}.{number}" for name, number in numbers.items()]

    def stop(self) -> None:
        """bgpd says goodbye to the routers."""
        left = self.scratch()
        while self._daemons:
            self._daemons.pop().stop()
        _remove(left)

    def kill(self) -> None:
        """As a machine that loses its power."""
        left = self.scratch()
        while self._daemons:
            self._daemons.pop().kill()
        _remove(left)


def _remove(directories: list[Path]) -> None:
    for each in directories:
        shutil.rmtree(each, ignore_errors=True)


def of_director(topology: Topology, node: Node) -> str:
    """frr.conf of one that announces the lab's VIPs to the router."""
    return frr.render(announced(topology, node))
