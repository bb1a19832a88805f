# SPDX-License-Identifier: Apache-2.0
"""A LAN with clients, a director and real servers, out of network namespaces of this machine.

    with Lab("trial", backends=2) as lab:
        lab.nginx("backend1")
        print(lab.client.run("curl", "-s", f"http://{lab.host('backend1').node.ipv4}/who").stdout)

What `up` makes, `down` removes; what a killed process left, the next `up` or `down` of the same name removes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from xdpdirector.errors import ConflictError, NotFoundError
from xdpdirector.lab import lab_state, network
from xdpdirector.lab.director import READY_WITHIN, LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.lab_state import CHECKOUT, Record
from xdpdirector.lab.processes import Process
from xdpdirector.lab.servers import Echo, Nginx, big_file
from xdpdirector.lab.topology import CLIENT, DIRECTOR, ROUTER, SWITCH, Topology


class Lab:
    """A lab of that name: one at a time on a machine. As a context manager it is up inside the block.

    With `numbered`, a name that is taken gets a number when the lab is built: demo_2.
    """

    def __init__(
        self,
        name: str = "lab",
        *,
        backends: int = 3,
        two_arm: bool = False,
        directors: int = 1,
        router: bool = False,
        numbered: bool = False,
    ) -> None:
        self._numbered = numbered
        self._prepare(Topology(name, backends, two_arm, directors, router))

    def _prepare(self, topology: Topology) -> None:
        self.topology = topology
        self.record = Record(topology.name)
        self._hosts = {node.name: Host(node, self.record) for node in topology.nodes}
        self._nginx: dict[str, Nginx] = {}

    @classmethod
    def standing(cls, name: str) -> Lab:
        """The lab of that name that is up already; NotFoundError when none is."""
        topology = Record(name).topology
        if topology is None:
            raise NotFoundError(f"no lab '{name}' is up: `xdpdirector lab up --name {name}` builds it")
        return cls(
            topology.name,
            backends=topology.backends,
            two_arm=topology.two_arm,
            directors=topology.directors,
            router=topology.router,
        )

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def up(self, *, stay: bool = False) -> None:
        """Build it, after clearing what an earlier one of this name left.

        ConflictError while another running process holds it. With `stay` it outlives this process.
        """
        network.check_machine()
        owner = None if stay else Process.of(os.getpid())
        with lab_state.building():
            if self._numbered:
                self._take_free_name()
            refuse_held(self.topology.name)
            network.clear(self.topology.name)
            self.record.begin(self.topology, owner)
            try:
                network.build(self.topology)
            except BaseException:
                network.clear(self.topology.name)
                self.record.release()
                raise
            self.record.finish(self.topology, owner)

    def _take_free_name(self) -> None:
        base, number = self.topology.name, 1
        while _is_taken(self.topology.name):
            number += 1
            self._prepare(replace(self.topology, name=f"{base}_{number}"))

    def down(self) -> None:
        """End what runs in it and remove it. Nothing happens when it is down."""
        with lab_state.building():
            network.clear(self.topology.name)
        self.record.release()
        for host in self._hosts.values():
            host.reap()

    def host(self, name: str) -> Host:
        """By name: client, director, switch, backend1 ..."""
        return self._hosts[self.topology.node(name).name]

    @property
    def client(self) -> Host:
        return self._hosts[CLIENT]

    @property
    def director_host(self) -> Host:
        return self._hosts[DIRECTOR]

    @property
    def director_hosts(self) -> list[Host]:
        return [self._hosts[node.name] for node in self.topology.director_nodes]

    @property
    def router(self) -> Host:
        """Of a lab with one."""
        return self.host(ROUTER)

    @property
    def switch(self) -> Host:
        return self._hosts[SWITCH]

    @property
    def backends(self) -> list[Host]:
        return [self._hosts[node.name] for node in self.topology.backend_nodes]

    def nginx(self, backend: str, *, big_megabytes: int = 0) -> Nginx:
        """nginx on that backend, started if it was not; with a file /big when `big_megabytes` is given."""
        server = self._nginx.get(backend)
        if server is None:
            server = self._nginx[backend] = Nginx(self.host(backend))
            if big_megabytes:
                server.publish(big_file(self.record.directory, big_megabytes))
        server.start()
        return server

    def echo(self, backend: str, port: int) -> Echo:
        """A UDP echo on that backend, started."""
        server = Echo(self.host(backend), port)
        server.start()
        return server

    def director(
        self, configuration: Mapping[str, Any], *, number: int = 1, timeout: float = READY_WITHIN
    ) -> LabDirector:
        """A director's daemon with that configuration, started and ready. `number`: of the host, from 1 on."""
        host, instance = self.director_hosts[number - 1], self.topology.instances[number - 1]
        director = LabDirector(host, instance)
        director.configure(configuration)
        director.start(timeout)
        return director


def refuse_held(name: str) -> None:
    """ConflictError naming the running process that holds the lab, if that is another than this one."""
    owner = Record(name).owner
    if owner and owner.pid != os.getpid():
        raise ConflictError(
            f"lab '{name}' belongs to process {owner.pid} ({owner.command}), which still runs: "
            "wait for it, end it, or use another name"
        )


def _is_taken(name: str) -> bool:
    """Whether a lab of that name exists, or another process builds it."""
    found = Record(name)
    owner = found.owner
    return owner.pid != os.getpid() if owner else found.stays


def take_down(name: str) -> None:
    """Remove the lab of that name or what is left of it; ConflictError while a running process holds it."""
    network.check_machine()
    with lab_state.building():
        refuse_held(name)
        network.clear(name)


def kept_by(name: str) -> str | None:
    """Who keeps the lab of that name from being cleared with all others: a living process, or another checkout."""
    found = Record(name)
    if owner := found.owner:
        return f"process {owner.pid} ({owner.command}), which still runs"
    other = found.checkout
    if found.stays and other and other != CHECKOUT and other.exists():
        return f"the checkout {other}"
    return None


def all_names() -> list[str]:
    """Every lab of which anything is left on this machine."""
    return sorted({*lab_state.names(), *network.names()})
