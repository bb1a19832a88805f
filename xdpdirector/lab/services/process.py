# SPDX-License-Identifier: Apache-2.0
"""A server that is one command in the foreground and ready when it listens. Knows nothing of protocols."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import Host
from xdpdirector.lab.servers import Server


class Program(Server):
    """`tcp` are the ports it listens on once it is ready; `package` is Debian's that brings it."""

    def __init__(
        self,
        host: Host,
        role: str,
        command: Sequence[str],
        *,
        tcp: Sequence[int],
        package: str,
    ) -> None:
        super().__init__(host)
        self.role = role
        self._command, self._ports = list(command), tuple(tcp)
        self._package = package

    def command(self) -> list[str]:
        if not shutil.which(self._command[0]):
            raise LabError(f"the command '{self._command[0]}' is missing: apt-get install {self._package}")
        return self._command

    def ready(self) -> bool:
        """On every port, IPv4 and IPv6."""
        lines = self.host.run("ss", "-Hltn").stdout.splitlines()
        listening = {int(line.split()[3].rpartition(":")[2]) for line in lines}
        return listening.issuperset(self._ports)
