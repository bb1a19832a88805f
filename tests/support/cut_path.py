# SPDX-License-Identifier: Apache-2.0
"""A path between hosts of a lab that loses all, while links and addresses stay."""

from __future__ import annotations

from xdpdirector.lab.host import Host


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
