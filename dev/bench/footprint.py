# SPDX-License-Identifier: Apache-2.0
"""What the daemon takes while nothing happens, and how soon it is back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from dev.bench.figure import MEGABYTES, SECONDS, Figure, Key
from dev.bench.samples import Series
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.topology import VIP4
from xdpdirector.system import procfs

SERVICES, BACKENDS = 100, 10
FIRST_PORT, FIRST_HOST = 1001, 21
SETTLING = 12.0  # in which everything that comes again and again has come twice
DAEMON = "daemon"
MEMORY, CHECKED = Key("resident memory", DAEMON), Key("resident memory, all checked", DAEMON)
START = Key("start to ready, adopting", DAEMON)
CHECK = {"type": "tcp", "interval": "2s", "timeout": "1s"}
_WHAT = f"{SERVICES} services with {BACKENDS} backends each"


def big_configuration(**more: Any) -> dict[str, Any]:
    """The same addresses in every service; `more` is each service's."""
    backends = {f"backend{n}": {"address": f"192.0.2.{FIRST_HOST + n}"} for n in range(BACKENDS)}
    return {
        "interfaces": ["eth0"],
        "services": {
            f"service{n}": {"listeners": [f"{VIP4}:{FIRST_PORT + n}/tcp"], "backends": backends, **more}
            for n in range(SERVICES)
        },
    }


def footprint(lab: Lab, rounds: int) -> Iterator[Figure]:
    """In a lab whose director does not run."""
    director = lab.director(big_configuration(check=CHECK))
    time.sleep(SETTLING)
    checked = resident_megabytes(director.pid or 0)
    director.stop()
    director.configure(big_configuration())
    director.start()
    time.sleep(SETTLING)
    memory = resident_megabytes(director.pid or 0)
    times = []
    for _ in range(rounds):
        director.stop()
        begin = time.monotonic()
        director.start()
        times.append(time.monotonic() - begin)
    director.stop()
    for key, megabytes, happening in (
        (MEMORY, memory, "nothing happening"),
        (CHECKED, checked, "each backend of each service checked every 2 s"),
    ):
        how = f"VmRSS {SETTLING:g} s after it was ready, {_WHAT}, {happening}."
        yield Figure(key, Series.of([megabytes]), how, unit=MEGABYTES)
    yield Figure(
        START,
        Series.of(times),
        f"From starting the process to /readyz saying so, {_WHAT}, over the data plane that the one before left.",
        unit=SECONDS,
    )


def resident_megabytes(pid: int) -> float:
    """What the process has in memory."""
    text = (procfs.directory(pid) / "status").read_text()
    kilobytes = next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS:"))
    return int(kilobytes) / 1024
