# SPDX-License-Identifier: Apache-2.0
"""The director's own network fails and returns: no verdict on a backend follows, and no connection is reset."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from conversation import Conversation
from directing import command, directing, view

from xdpdirector.lab import Lab
from xdpdirector.lab.clients import Clients
from xdpdirector.lab.configuration import TARGETS, HealthCheck, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

PORT = "p0-director"  # of the switch
CHECK = HealthCheck(interval=1.0, timeout=1.0, rise=2, fall=2)  # a busy machine is no fault
LONGER = CHECK.window + 1.0  # seconds in which every check has failed often enough


@pytest.fixture(scope="module", params=["wlc", "mh"])
def director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    nodes = lab.topology.backend_nodes
    with directing(lab, web_configuration(nodes, scheduler=request.param, check=CHECK)) as director:
        yield director


def addresses(host: Host) -> str:
    arm = host.arm("eth0")
    return "".join(
        f"addr replace {address} dev eth0 {flags}\n"
        for address, flags in ((host.node.interface4(arm), ""), (host.node.interface6(arm), "nodad"))
    )


def flush(lab: Lab) -> None:
    lab.director_host.run("ip", "addr", "flush", "dev", "eth0")


def put_back(lab: Lab) -> None:
    lab.director_host.run("ip", "-batch", "-", text=addresses(lab.director_host))


def problems(director: LabDirector) -> str:
    return "; ".join(director.client.get("/readyz")["problems"])


def pull_cable(lab: Lab) -> None:
    lab.switch.run("ip", "link", "set", PORT, "down")


def plug_cable(lab: Lab) -> None:
    lab.switch.run("ip", "link", "set", PORT, "up")


@dataclass(frozen=True)
class Fault:
    make: Callable[[Lab], None]
    mend: Callable[[Lab], None]
    why: str


FAULTS = {
    "addresses": Fault(flush, put_back, "is gone from eth0"),
    "carrier": Fault(pull_cable, plug_cable, "interface eth0 is down or has no carrier"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_directors_own_network_costs_no_connection(
    lab: Lab, director: LabDirector, fault: Fault
) -> None:
    names, before = (
        [host.name for host in lab.backends],
        command(director, "events", "--types", "backend").stdout,
    )
    with ExitStack() as stack:
        running = [
            stack.enter_context(Conversation(lab.client, vip)) for vip in (VIP4, VIP6) for _ in range(6)
        ]
        clients = stack.enter_context(Clients(lab.client, list(TARGETS), rate=30, kept=0, timeout=20.0))

        fault.make(lab)
        lasts_until = time.monotonic() + LONGER
        wait_until(lambda: fault.why in problems(director), "the fault is a problem", 5.0)
        wait_until(lambda: time.monotonic() > lasts_until, "checks have failed", LONGER + 5.0)
        seen = [view(director, name) for name in names]
        fault.mend(lab)
        wait_until(lambda: director.ready, "the director is ready again", 10.0)
        clients.stop()

        assert [one["operational"] for one in seen] == ["up"] * len(names)
        assert all(fault.why in one["reason"] for one in seen)
        assert [one.who() for one in running] == [one.backend for one in running]
        assert {request.outcome for request in clients.requests()} == {"ok"}
    assert fault.why in command(director, "events", "--types", "network.fault").stdout
    assert command(director, "events", "--types", "backend").stdout == before
