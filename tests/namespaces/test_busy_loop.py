# SPDX-License-Identifier: Apache-2.0
"""A director under all that its limits allow at once: nothing holds its loop, and its verdicts stay right.

A hostile reader, a flood of refused requests, ten thousand connections in the table, and 250 backends that are well
and ill by turns. The daemon itself tells which callbacks were long (`xdpdirector.system.slow_callbacks`).
"""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from dev.bench.flapping import configuration as flapping_configuration
from dev.bench.flapping import flapping_server
from tests.support import hostile
from tests.support.lab_director import MARGIN, becomes, command
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, HealthCheck, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until
from xdpdirector.system import slow_callbacks

pytestmark = [pytest.mark.root, pytest.mark.backends(3)]

PORT = 8650
LONGEST = 0.05  # seconds of the processor, for one callback
LONGEST_COLLECTION = 0.075  # of garbage: 20 to 54 ms where eight other processes want the same two processors
CONNECTIONS = 10_000
FLAPPING, VICTIM = "flapping", "backend3"
CHECK = HealthCheck(interval=1.0, timeout=1.0, rise=2, fall=3)
SECONDS = [20, pytest.param(180, marks=pytest.mark.soak)]


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Iterator[None]:
    with flapping_server(lab):
        yield


@pytest.fixture(scope="module")
def tokens() -> dict[str, str]:
    """By role."""
    return {}


@pytest.fixture(scope="module")
def director(lab: Lab, fleet: None, tokens: dict[str, str]) -> Iterator[LabDirector]:
    director = LabDirector(lab.director_host, lab.topology.instance)
    document = web_configuration(lab.topology.backend_nodes, check=CHECK)
    flapping = flapping_configuration()["services"][SERVICE] | {"listeners": [f"{VIP4}:8080/tcp"]}
    document["services"][FLAPPING] = flapping
    director.configure(document)
    director.environment = {slow_callbacks.VARIABLE: str(LONGEST)}
    director.start()
    for name, role in {"read": "read", "flood": "read", "operate": "operate", "admin": "admin"}.items():
        tokens[name] = director.client.post("/v1/tokens", {"name": name, "role": role})["token"]
    director.stop()
    director.configure(document | {"api": {"listen": [f"127.0.0.1:{PORT}"]}})
    director.start()
    try:
        for backend in document["services"][SERVICE]["backends"]:
            becomes(director, backend, "up")
        yield director
    finally:
        director.stop()
        command(director, "unload")


def fill(lab: Lab, director: LabDirector) -> None:
    """The table, with what looks like connections."""

    def enough() -> bool:
        flood(lab, seconds=5)
        return stored(director) >= CONNECTIONS

    wait_until(enough, f"{CONNECTIONS} connections are in the table", 90.0)


def flood(lab: Lab, *, seconds: int) -> None:
    macs = lab.topology.director.mac(), lab.topology.client.mac()
    line = (sys.executable, "-m", "dev.chaos.attacker", "two packets", "eth0", *macs)
    lab.client.run(*line, str(VIP4), "80", "5000", str(seconds), "1", timeout=60)


def stored(director: LabDirector) -> int:
    lines = director.client.get("/metrics").splitlines()
    return int(
        float(next(line for line in lines if line.startswith("xdpdirector_connections_stored ")).split()[1])
    )


def refusals(director: LabDirector) -> int:
    """Answers of a status from 400 to 499, so far."""
    lines = director.client.get("/metrics").splitlines()
    return sum(
        int(float(line.split()[-1]))
        for line in lines
        if line.startswith("xdpdirector_api_requests_total{") and 'status="4' in line
    )


class Attack:
    """A `hostile.py` that runs on the director's host."""

    def __init__(self, director: LabDirector, kind: str, source: str, seconds: float, *tokens: str) -> None:
        program = hostile.__file__
        line = (sys.executable, program, kind, str(PORT), source, str(seconds), *tokens)
        self._child = director.host.popen(*line, role=f"hostile-{kind}", stdout=subprocess.PIPE)

    def answers(self, timeout: float) -> dict[str, int]:
        """By status, at its end."""
        said, _ = self._child.communicate(timeout=timeout)
        answers: dict[str, int] = json.loads(said)
        return answers


def begun(director: LabDirector, tokens: dict[str, str], seconds: float) -> list[Attack]:
    """All at once."""
    return [
        Attack(director, "reader", "127.0.0.2", seconds, tokens["read"]),
        Attack(director, "writer", "127.0.0.3", seconds, tokens["operate"], tokens["admin"]),
        Attack(director, "flood", "127.0.0.4", seconds, tokens["flood"]),
    ]


def held(director: LabDirector, begin: int) -> list[str]:
    """What the daemon says of long callbacks and collections of garbage, from that place of its log on."""
    lines = director.log.read_text()[begin:].splitlines()
    told = [(line, re.search(r"took ([0-9.]+) ms of the loop", line)) for line in lines]
    return [
        line
        for line, took in told
        if took and ("collection of garbage" not in line or float(took[1]) > 1000 * LONGEST_COLLECTION)
    ]


@contextmanager
def verdicts(director: LabDirector, after: int) -> Iterator[list[tuple[str, str]]]:
    """What was said of backends in the block, and of which; complete at its end. It is read all the while, for in
    three minutes it is more than the director keeps."""
    said: list[tuple[str, str]] = []
    over = threading.Event()

    def follow() -> None:
        last, wanted, ends = after, {"types": "backend.up,backend.down", "follow": "false"}, False
        while not ends:
            ends = over.wait(2.0)
            for message in director.client.stream("/v1/events", wanted, after=str(last)):
                assert message.event != "gap", message.data
                found = json.loads(message.data)
                said.append((message.event, found["subject"]))
                last = found["id"]

    with ThreadPoolExecutor(1) as threads:
        following = threads.submit(follow)
        try:
            yield said
        finally:
            over.set()
        following.result()


@pytest.mark.parametrize("seconds", SECONDS)
def test_nothing_holds_the_loop_and_verdicts_stay_right(
    lab: Lab, director: LabDirector, tokens: dict[str, str], seconds: int
) -> None:
    fill(lab, director)
    for attack in begun(director, tokens, 2):  # what is made once, schemas above all, is made by then
        attack.answers(timeout=60)
    begin, before = len(director.log.read_text()), refusals(director)
    last = director.client.get("/v1/services")["last_event_id"]
    with verdicts(director, last) as said:
        attacks = begun(director, tokens, seconds)
        wait_until(lambda: refusals(director) > before + 30, "the attack is under way", 60.0)

        lab.nginx(VICTIM).stop()
        becomes(director, VICTIM, "down", CHECK.window + MARGIN)
        answers = [attack.answers(timeout=seconds + 60) for attack in attacks]

    assert held(director, begin) == []
    assert [each for each in said if each[1].startswith(f"{SERVICE}/")] == [
        ("backend.down", f"{SERVICE}/{VICTIM}")
    ]
    assert len(said) > seconds * 10  # of 250 backends that change once a second
    assert stored(director) >= CONNECTIONS
    assert all(each.get("200") or each.get("422") for each in answers)
    assert [status for each in answers for status in each if status.startswith("5")] == []
