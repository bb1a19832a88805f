# SPDX-License-Identifier: Apache-2.0
"""Two services swap their listeners in one change, again and again, under traffic: nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

import pytest

from tests.support.lab_director import directing
from tests.support.numbered_datagrams import Numbered
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import backend_address
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

PORTS = (5001, 5002)
RATE, FLOWS, SWAPS = (
    400,
    16,
    9,
)  # datagrams a second on each port; an odd number: in the end they have swapped
OWNER = {"one": "backend1", "two": "backend2", "bystander": "backend3"}


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    return lab_factory(backends=3)


def configuration(lab: Lab, scheduler: str) -> dict[str, Any]:
    """Each service has a backend of its own; the first two have a port of `PORTS` each."""
    ports = dict(zip(OWNER, (*PORTS, 5003), strict=True))
    services = {
        name: {
            "listeners": [f"{VIP4}:{ports[name]}/udp"],
            "scheduler": scheduler,
            "backends": {backend: {"address": backend_address(lab.topology.node(backend))}},
        }
        for name, backend in OWNER.items()
    }
    return {"interfaces": ["eth0"], "services": services}


@pytest.fixture(params=["wlc", "mh"])
def director(request: pytest.FixtureRequest, lab: Lab) -> Iterator[LabDirector]:
    with directing(lab, configuration(lab, request.param)) as director:
        director.wait_serving()
        yield director


def swapped(document: dict[str, Any]) -> dict[str, Any]:
    wanted = deepcopy(document)
    one, two = wanted["services"]["one"], wanted["services"]["two"]
    one["listeners"], two["listeners"] = two["listeners"], one["listeners"]
    return wanted


def packets(director: LabDirector) -> int:
    return int(sum(each["packets"] for each in director.client.get("/v1/stats")["services"].values()))


def test_services_that_swap_their_listeners_lose_nothing(lab: Lab, director: LabDirector) -> None:
    document = director.client.get("/v1/config")

    with ExitStack() as stack:
        streams = [
            stack.enter_context(Numbered(lab.client, lab.backends, [str(VIP4)], port, RATE, FLOWS))
            for port in PORTS
        ]
        for _ in range(SWAPS):
            document = swapped(document)
            director.client.put("/v1/config", document)
        during = [stream.finish() for stream in streams]
    with ExitStack() as stack:
        streams = [
            stack.enter_context(Numbered(lab.client, lab.backends, [str(VIP4)], port, RATE, FLOWS))
            for port in PORTS
        ]
        seen = packets(director)
        wait_until(lambda: packets(director) > seen + 200, "some have come")
        after = [stream.finish() for stream in streams]

    assert [(tally.lost, tally.repeated) for tally in (*during, *after)] == [([], 0)] * 4
    assert all(tally.used <= {"backend1", "backend2"} for tally in during)
    assert [tally.used for tally in after] == [{"backend2"}, {"backend1"}]
    assert director.client.get("/v1/stats")["drift_repaired"] == 0
