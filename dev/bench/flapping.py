# SPDX-License-Identifier: Apache-2.0
"""How long the API takes while the backends of a service come and go: each of 250 once a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from dev.bench.figure import SECONDS, Figure, Key
from dev.bench.footprint import DAEMON
from dev.bench.samples import Series
from xdpdirector.client import Client, backend_path, service_path
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.servers import FlappingServer
from xdpdirector.lab.topology import VIP4

BACKENDS, PERIOD = 250, 1.0
PORT = 8080
NET = "198.51.100"  # a network of its own: the lab's is too small
SETTLING = 3.0
SERVICE = "web"
READING = Key("API p99 while backends flap, reading", DAEMON)
CHANGING = Key("API p99 while backends flap, changing a weight", DAEMON)
_WHAT = f"{BACKENDS} backends of one `mh` service whose checks change their verdict every {PERIOD:g} s"


def flapping(lab: Lab, seconds: float) -> Iterator[Figure]:
    """In a lab whose director does not run; `seconds` of asking."""
    with flapping_server(lab):
        director = lab.director(configuration())
        try:
            time.sleep(SETTLING)
            reads, writes = _ask(director.client, seconds)
        finally:
            director.stop()
    for key, times in ((READING, reads), (CHANGING, writes)):
        yield Figure(
            key,
            Series.of([percentile(times, 99)]),
            f"Of {len(times)} requests over the unix socket, one after the other, with {_WHAT}; "
            f"median {percentile(times, 50) * 1000:.0f} ms.",
            unit=SECONDS,
        )


@contextmanager
def flapping_server(lab: Lab) -> Iterator[None]:
    """The backends of `configuration` are there, on the lab's first one, and the director's host reaches them."""
    host = lab.backends[0]
    lines = [f"address add {NET}.{number}/24 dev eth0\n" for number in range(1, BACKENDS + 1)]
    host.run("ip", "-batch", "-", text="".join(lines))
    lab.director_host.run("ip", "address", "add", f"{NET}.254/24", "dev", "eth0")
    server = FlappingServer(host, PORT, PERIOD)
    server.start()
    try:
        yield
    finally:
        server.stop()
        for each in (lab.director_host, host):
            each.run("ip", "address", "flush", "dev", "eth0", "to", f"{NET}.0/24")


def configuration() -> dict[str, Any]:
    """Two tries a second; the first one decides."""
    check = {"type": "http", "port": PORT, "via": "address", "interval": "500ms", "timeout": "400ms"}
    return {
        "interfaces": ["eth0"],
        "services": {
            SERVICE: {
                "listeners": [f"{VIP4}:80/tcp"],
                "scheduler": "mh",
                "check": check | {"rise": 1, "fall": 1},
                "backends": {
                    f"b{number:03}": {"address": f"{NET}.{number}"} for number in range(1, BACKENDS + 1)
                },
            }
        },
    }


def percentile(times: list[float], percent: int) -> float:
    """The least of them that so many percent are not above."""
    return sorted(times)[max(0, -(-len(times) * percent // 100) - 1)]


def _ask(client: Client, seconds: float) -> tuple[list[float], list[float]]:
    """Seconds that each took: reads of all kinds, and changes."""
    one = backend_path(SERVICE, "b001")
    reads: list[float] = []
    writes: list[float] = []
    weights = count()
    questions: list[tuple[list[float], Callable[[], Any]]] = [
        (reads, lambda: client.get(service_path(SERVICE))),
        (reads, lambda: client.get(one)),
        (reads, lambda: client.get("/v1/stats")),
        (reads, lambda: client.get("/readyz")),
        (writes, lambda: client.patch(one, {"weight": 1 + next(weights) % 2})),
    ]
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for times, question in questions:
            begun = time.monotonic()
            question()
            times.append(time.monotonic() - begun)
    return reads, writes
