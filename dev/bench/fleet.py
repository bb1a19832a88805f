# SPDX-License-Identifier: Apache-2.0
"""How soon a change through one director of a fleet is in the data plane of all: five daemons on this machine, and
an etcd of one member.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator

from dev.bench.figure import SECONDS, Figure, Key
from dev.bench.footprint import DAEMON
from dev.bench.samples import Series
from xdpdirector.client import UnixConnection, backend_path
from xdpdirector.errors import DirectorError
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.etcd import LabEtcd, is_installed
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.waiting import wait_until

DIRECTORS, CHANGES = 5, 40
APART = 0.2  # seconds between two changes
EVERYWHERE = Key(f"a change of a weight, until all of {DIRECTORS} directors have it", DAEMON)
_SOON = 120.0  # seconds


def fleet(name: str) -> Iterator[Figure]:
    """In a lab of its own, of that name; nothing where etcd is not installed."""
    if not is_installed():
        return
    with Lab(name, backends=2, directors=DIRECTORS, numbered=True) as lab, contextlib.ExitStack() as stack:
        etcd = LabEtcd(lab.client)
        etcd.start()
        stack.callback(etcd.kill)
        directors = []
        for number in range(1, DIRECTORS + 1):
            directors.append(lab.director(_configuration(lab, etcd, number), number=number))
            stack.callback(directors[-1].stop)
        wait_until(lambda: len(_revisions(directors[0])) == DIRECTORS, "all are of the fleet", _SOON)
        seconds = []
        for number in range(CHANGES):
            time.sleep(APART)
            seconds.append(_change(directors[number % DIRECTORS], lab.backends[0].name, 10 + number))
    yield Figure(
        EVERYWHERE,
        Series.of([max(seconds)]),
        f"The longest of {CHANGES} changes, each through another director, from the request on until an answer "
        "says that the data plane of each has it (`Fleet-Applied`, which looks every 50 ms); median "
        f"{statistics.median(seconds) * 1000:.0f} ms.",
        unit=SECONDS,
    )


def _configuration(lab: Lab, etcd: LabEtcd, number: int) -> dict[str, object]:
    store = {"type": "etcd", "endpoints": etcd.endpoints, "name": f"d{number}", "insecure": True}
    return web_configuration(lab.topology.backend_nodes) | {
        "vips": "manage" if number == 1 else "external",
        "store": store,
    }


def _revisions(director: LabDirector) -> list[int]:
    """That the live directors have."""
    return [each["revision"] for each in director.client.get("/v1/fleet")["directors"]]


def _change(director: LabDirector, backend: str, weight: int) -> float:
    """Seconds. DirectorError when it is refused."""
    begun = time.monotonic()
    with contextlib.closing(UnixConnection(director.paths.socket, _SOON)) as connection:
        body = json.dumps({"weight": weight})
        headers = {"content-type": "application/merge-patch+json"}
        connection.request("PATCH", backend_path(SERVICE, backend), body, headers)
        answer = connection.getresponse()
        said = answer.read()
    if answer.status != 200:
        raise DirectorError(f"a change is refused: {said.decode()}")
    if len((answer.headers["fleet-applied"] or "").split(", ")) < DIRECTORS:
        revision = director.client.get("/readyz")["revision"]
        wait_until(
            lambda: sum(each >= revision for each in _revisions(director)) == DIRECTORS,
            "all have the change",
            _SOON,
            interval=0.01,
        )
    return time.monotonic() - begun
