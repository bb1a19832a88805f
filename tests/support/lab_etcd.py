# SPDX-License-Identifier: Apache-2.0
"""A real etcd on hosts of a lab: one member or several, that a test kills, cuts off and starts again."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence

from xdpdirector.lab.host import Host

PORT, PEER_PORT = 2379, 2380


class LabMember:
    """One process; its data outlives it."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.endpoint = f"{host.node.ipv4}:{PORT}"
        self.peer = f"http://{host.node.ipv4}:{PEER_PORT}"
        self._child: subprocess.Popen[str] | None = None

    def start(self, cluster: str) -> None:
        client = f"http://{self.endpoint}"
        if self._child is None:
            self._child = self.host.popen(
                *("etcd", "--name", self.host.name, "--data-dir", str(self.host.directory("etcd"))),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer),
                *("--initial-cluster", cluster, "--log-level", "error"),
                role="etcd",
            )

    def kill(self) -> None:
        if self._child:
            self._child.send_signal(signal.SIGKILL)
            self._child.wait(timeout=30)
            self._child = None


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


class Cut:
    """What a host sends to these others reaches nobody, and nothing is said to it, until the end. A context
    manager. The link stays; a neighbour entry names a MAC that no host has."""

    NOBODY = "02:00:00:00:00:fe"

    def __init__(self, host: Host, *others: Host) -> None:
        nodes = [each.node for each in others]
        self._host = host
        self._others = [str(address) for each in nodes for address in (each.ipv4, each.ipv6)]

    def __enter__(self) -> Cut:
        for each in self._others:
            entry = ("to", each, "lladdr", self.NOBODY, "dev", "eth0", "nud", "permanent")
            self._host.run("ip", "neigh", "replace", *entry)
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._others:
            self._host.run("ip", "neigh", "del", each, "dev", "eth0")
