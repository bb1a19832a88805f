# SPDX-License-Identifier: Apache-2.0
"""Configurations of many services: how long they take to apply and to adopt, and what they take at rest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from dev.bench.figure import (
    MEGABYTES,
    PERCENT,
    SECONDS,
    Figure,
    Key,
)
from dev.bench.footprint import DAEMON, resident_megabytes
from dev.bench.samples import Series
from xdpdirector.client import backend_path
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.topology import VIP4

NET, HOSTS = "198.51.100", 250  # a network of its own: the lab's is too small
FIRST_PORT = 1001
RING_SLOTS = 4093
SETTLING, AT_REST = 12.0, 15.0  # seconds
PATIENCE = 120.0  # seconds for one request
CHANGES = 20
SCRAPES, SCRAPES_APART = 5, 5.0  # seconds; a caller who asks more often is made to wait


class Size(NamedTuple):
    """`owed`: seconds in which it is to be applied, and megabytes."""

    services: int
    backends: int
    scheduler: str
    seconds_owed: float
    megabytes_owed: float

    def __str__(self) -> str:
        return f"{self.services:,} services x {self.backends}, {self.scheduler}"

    def key(self, what: str) -> Key:
        return Key(f"{what}: {self}", DAEMON)


SIZES = (
    Size(200, 5, "wlc", 1.0, 100),
    Size(1000, 1, "wlc", 1.0, 100),
    Size(1000, 1, "mh", 1.0, 105),
    Size(4096, 1, "wlc", 3.0, 160),
)
APPLYING, CHANGING, READY = "applying a configuration", "changing a weight", "ready again, adopting"
MEMORY, BUSY, SCRAPED = "memory", "a processor's time at rest", "a scrape of /metrics"
CHANGE_COST, MEMORY_THEN = "a processor's time for a changed weight", "memory after scrapes and changes"


def large(lab: Lab) -> Iterator[Figure]:
    """In a lab whose director does not run."""
    host = lab.backends[0]
    lines = [f"address add {NET}.{number}/24 dev eth0\n" for number in range(1, HOSTS + 1)]
    host.run("ip", "-batch", "-", text="".join(lines))
    lab.director_host.run("ip", "address", "add", f"{NET}.254/24", "dev", "eth0")
    try:
        for size in SIZES:
            director = lab.director(configuration(size, services=1))
            try:
                yield from _figures(director, size)
            finally:
                director.stop()
    finally:
        for each in (lab.director_host, host):
            each.run("ip", "address", "flush", "dev", "eth0", "to", f"{NET}.0/24")


def configuration(size: Size, services: int | None = None) -> dict[str, Any]:
    """One VIP, a port for each service; `services`: so many of them."""
    ring = {"ring_slots": RING_SLOTS} if size.scheduler == "mh" else {}
    return {
        "interfaces": ["eth0"],
        "sizes": {
            "services": 4096,
            "backends": 8192,
            "listeners": 8192,
            "ring_slots": max(1 << 20, RING_SLOTS * (size.services + 1)),
        },
        "services": {
            f"s{n}": {
                "listeners": [f"{VIP4}:{FIRST_PORT + n}/tcp"],
                "scheduler": size.scheduler,
                **ring,
                "backends": {
                    f"b{k}": {"address": f"{NET}.{1 + (n * size.backends + k) % HOSTS}"}
                    for k in range(size.backends)
                },
            }
            for n in range(size.services if services is None else services)
        },
    }


def _figures(director: LabDirector, size: Size) -> Iterator[Figure]:
    client, whole = director.client, configuration(size)
    wanted = {**client.get("/v1/config"), "services": whole["services"]}
    begin = time.monotonic()
    client.put("/v1/config", wanted, timeout=PATIENCE)
    yield _figure(
        size, APPLYING, time.monotonic() - begin, SECONDS, "One PUT of /v1/config, until it is answered"
    )
    time.sleep(SETTLING)
    pid = director.pid or 0
    begin, before = time.monotonic(), processor_seconds(pid)
    time.sleep(AT_REST)
    share = 100 * (processor_seconds(pid) - before) / (time.monotonic() - begin)
    yield _figure(
        size, BUSY, share, PERCENT, f"Of one processor, over {AT_REST:g} s in which nothing happens"
    )
    yield _figure(size, MEMORY, resident_megabytes(pid), MEGABYTES, "VmRSS then")
    times = []
    for _ in range(SCRAPES):
        begin = time.monotonic()
        client.text("/metrics", "text/plain")
        times.append(time.monotonic() - begin)
        time.sleep(SCRAPES_APART)
    how = f"Median of {SCRAPES} over the socket, {SCRAPES_APART:g} s apart"
    yield _figure(size, SCRAPED, sorted(times)[SCRAPES // 2], SECONDS, how)
    times, before = [], processor_seconds(pid)
    for number in range(CHANGES):
        begin = time.monotonic()
        client.patch(backend_path("s0", "b0"), {"weight": 1 + number % 2})
        times.append(time.monotonic() - begin)
    used = (processor_seconds(pid) - before) / CHANGES
    yield _figure(
        size, CHANGING, sorted(times)[CHANGES // 2], SECONDS, f"Median of {CHANGES} over the socket"
    )
    yield _figure(size, CHANGE_COST, used, SECONDS, f"Of all threads, mean of {CHANGES}")
    yield _figure(size, MEMORY_THEN, resident_megabytes(pid), MEGABYTES, "VmRSS then")
    director.stop()
    begin = time.monotonic()
    director.start()
    how = "From starting the process to /readyz saying so, over the data plane that the one before left"
    yield _figure(size, READY, time.monotonic() - begin, SECONDS, how)


def _figure(size: Size, what: str, value: float, unit: str, how: str) -> Figure:
    return Figure(size.key(what), Series.of([value]), f"{how}; {size}.", unit=unit)


def processor_seconds(pid: int) -> float:
    """What the process has used. The number of its clock is made as clock_getcpuclockid(3) makes it."""
    return time.clock_gettime((~pid << 3) | 2)
