# SPDX-License-Identifier: Apache-2.0
"""A real etcd on hosts of a lab: one member or several, that may be killed and started again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from xdpdirector.lab.host import Host
from xdpdirector.lab.host_daemon import HostDaemon

ROLE, PORT, PEER_PORT = "etcd", 2379, 2380


def is_installed() -> bool:
    """Debian has it in etcd-server."""
    return shutil.which("etcd") is not None


class LabMember(HostDaemon):
    """One process; its data outlives it."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, ROLE)
        self.host = host
        self.endpoint = f"{host.node.ipv4}:{PORT}"
        self.peer = f"http://{host.node.ipv4}:{PEER_PORT}"

    def start(self, cluster: str) -> None:
        """Nothing when it runs. `cluster`: all members, as etcd's `--initial-cluster` wants them."""
        client = f"http://{self.endpoint}"
        if self._child is None:
            self.run(
                *("etcd", "--name", self.host.name, "--data-dir", str(self.directory / "data")),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer),
                *("--initial-cluster", cluster, "--log-level", "error"),
            )


class LabEtcd:
    """A member on each of these hosts."""

    def __init__(self, *hosts: Host) -> None:
        self.members: Sequence[LabMember] = [LabMember(host) for host in hosts]
        self._cluster = ",".join(f"{each.host.name}={each.peer}" for each in self.members)

    @property
    def endpoints(self) -> list[str]:
        return [each.endpoint for each in self.members]

    def start(self) -> None:
        """Those that do not run."""
        for each in self.members:
            each.start(self._cluster)

    def kill(self) -> None:
        for each in self.members:
            each.kill()
