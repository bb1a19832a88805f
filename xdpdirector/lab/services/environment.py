# SPDX-License-Identifier: Apache-2.0
"""A lab with all the servers on all backends and a director in front, and what can be done to it.

Says nothing of what clients should see.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any

from xdpdirector.client import backend_path
from xdpdirector.lab.configuration import HealthCheck, backend_address
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.servers import Server
from xdpdirector.lab.services.service_def import Kind, authority
from xdpdirector.lab.topology import FIRST_ARM, VIP4, VIP6, Node
from xdpdirector.lab.waiting import wait_until

CHECK = HealthCheck(interval=1.0, timeout=1.0)
STARTING = 60.0
_AT_ONCE = 4  # servers that start together
# So little waits on the way that a download is still under way when its client pauses; octets: least, first, most.
_BUFFERS = tuple(f"net.ipv4.tcp_{way}=4096 65536 131072" for way in ("rmem", "wmem"))


class Stage:
    """Everything runs: `kinds` on every backend of the lab."""

    def __init__(self, lab: Lab, kinds: Sequence[Kind], scheduler: str) -> None:
        self.lab, self.kinds = lab, kinds
        self._speaker = lab.client.node
        self._numbers = count(self._speaker.number + 1)
        for host in (lab.client, *lab.backends):
            host.run("sysctl", "-qw", *_BUFFERS)
        _start([kind.server(host) for kind in kinds for host in lab.backends])
        self.director = lab.director(configuration(kinds, lab.topology.backend_nodes, scheduler))
        self.director.wait_serving(STARTING)

    def drain(self, *backends: str) -> None:
        """In all services: no new connections."""
        self._tell(backends, "drain")

    def enable(self, *backends: str) -> None:
        self._tell(backends, "enable")

    def _tell(self, backends: Iterable[str], what: str) -> None:
        for backend in backends:
            for kind in self.kinds:
                self.director.client.post(f"{backend_path(kind.name, backend)}/{what}", {"reason": "matrix"})

    @contextmanager
    def only(self, backend: str) -> Iterator[None]:
        """Inside the block new connections go to this one."""
        others = [host.name for host in self.lab.backends if host.name != backend]
        self.drain(*others)
        try:
            yield
        finally:
            self.enable(*others)

    @contextmanager
    def drained(self, backend: str) -> Iterator[None]:
        """Inside the block new connections do not go there."""
        self.drain(backend)
        try:
            yield
        finally:
            self.enable(backend)

    @contextmanager
    def unplugged(self, backend: str) -> Iterator[None]:
        """Inside the block its cable is pulled; afterwards it serves again."""
        host = self.lab.host(backend)
        host.link_down()
        try:
            yield
        finally:
            host.link_up()
            self.director.wait_serving(STARTING)

    def wait_down(self, backend: str) -> None:
        """Until the director has seen it in all services."""

        def all_down() -> bool:
            get = self.director.client.get
            views: list[Any] = [get(backend_path(kind.name, backend)) for kind in self.kinds]
            return all(view["operational"] == "down" for view in views)

        wait_until(all_down, f"{backend} is down in all services", STARTING, interval=0.05)

    @contextmanager
    def another_client(self) -> Iterator[None]:
        """Inside the block the client host uses source addresses that are new to the director."""
        before = self._speaker
        other = self._speaker = replace(before, number=next(self._numbers))
        self._client(
            f"addr add {other.interface4()} dev eth0", f"addr add {other.interface6()} dev eth0 nodad"
        )
        self._speak_from(other)
        try:
            yield
        finally:
            self._speaker = before
            self._speak_from(before)
            self._client(*(f"addr del {one} dev eth0" for one in (other.interface4(), other.interface6())))

    def _speak_from(self, node: Node) -> None:
        networks = ((node.interface4().network, node.ipv4), (node.interface6().network, node.ipv6))
        self._client(*(f"route replace {network} dev eth0 src {source}" for network, source in networks))

    def _client(self, *lines: str) -> None:
        self.lab.client.run("ip", "-batch", "-", text="".join(f"{line}\n" for line in lines))


def _start(servers: Sequence[Server]) -> None:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _ in pool.map(lambda server: server.start(STARTING), servers):
            pass


def configuration(kinds: Sequence[Kind], backends: Sequence[Node], scheduler: str) -> dict[str, Any]:
    """The director's document: a service of each kind, on both VIPs."""
    services = {kind.name: _service(kind, backends, scheduler) for kind in kinds}
    return {"interfaces": [FIRST_ARM.interface], "services": services}


def _service(kind: Kind, backends: Sequence[Node], scheduler: str) -> dict[str, Any]:
    pace = {key: CHECK.document()[key] for key in ("interval", "timeout", "rise", "fall")}
    service: dict[str, Any] = {
        "listeners": [f"{authority(vip)}:{port}" for port in kind.ports for vip in (VIP4, VIP6)],
        "scheduler": scheduler,
        "check": {**kind.check, **pace},
        "backends": {node.name: {"address": backend_address(node)} for node in backends},
    }
    if kind.persistent:
        service["persistence"] = {"timeout": "300s", "on_drain": kind.on_drain}
    return service
