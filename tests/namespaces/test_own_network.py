# SPDX-License-Identifier: Apache-2.0
"""The director's own network fails and returns: no verdict on a backend follows, and no connection is reset."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.lab_client import Conversation
from tests.support.lab_director import command, directing, view
from xdpdirector.lab import Lab
from xdpdirector.lab.clients import Clients
from xdpdirector.lab.configuration import TARGETS, HealthCheck, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

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


def other_mac(lab: Lab) -> None:
    lab.director_host.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:aa")


def own_mac(lab: Lab) -> None:
    lab.director_host.run("ip", "link", "set", "eth0", "address", lab.topology.director.mac())


def delete_interface(lab: Lab) -> None:
    lab.director_host.run("ip", "link", "delete", "eth0")


def make_interface(lab: Lab) -> None:
    """As a network manager does: the cable with the switch's end ready for native XDP, then the addresses."""
    topology = lab.topology
    name = topology.director.namespace
    lab.switch.run(
        *("ip", "link", "add", PORT, "type", "veth", "peer", "name", "eth0"),
        *("address", topology.director.mac(), "netns", name),
    )
    lab.switch.run("ip", "link", "set", PORT, "master", "br0", "up")
    lab.switch.run("ethtool", "-K", PORT, "tx", "off")
    lab.switch.run(sys.executable, "-m", "xdpdirector.lab.xdp_pass_port", PORT)
    lab.director_host.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
    lab.director_host.run("ip", "link", "set", "eth0", "up")
    put_back(lab)


@dataclass(frozen=True)
class Fault:
    make: Callable[[Lab], None]
    mend: Callable[[Lab], None]
    why: str


FAULTS = {
    "addresses": Fault(flush, put_back, "is gone from eth0"),
    "carrier": Fault(pull_cable, plug_cable, "interface eth0 is down or has no carrier"),
    "interface": Fault(delete_interface, make_interface, "interface eth0 does not exist any more"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_directors_own_network_costs_no_connection(
    lab: Lab, director: LabDirector, fault: Fault
) -> None:
    """Nor does the host's kernel reset one, which it would do for packets that come past the program to a VIP."""
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

        assert {one["operational"] for one in seen} == {"up"}
        assert all(fault.why in one["reason"] for one in seen)
        assert [one.who() for one in running] == [one.backend for one in running]
        assert {request.outcome for request in clients.requests()} == {"ok"}
    assert fault.why in command(director, "events", "--types", "network.fault").stdout
    assert command(director, "events", "--types", "backend").stdout == before
    if fault.make is delete_interface:
        told = command(director, "events", "--types", "dataplane.reattached").stdout
        assert "interface eth0 was deleted and made anew: program" in told


def delete_filters(lab: Lab) -> None:
    lab.director_host.run("tc", "qdisc", "delete", "dev", "eth0", "clsact")


DISTURBANCES = {"MAC": (other_mac, own_mac), "filters of the checks": (delete_filters, delete_filters)}


@pytest.mark.parametrize(("disturb", "again"), DISTURBANCES.values(), ids=DISTURBANCES)
def test_what_is_done_to_the_director_is_no_verdict_on_a_backend(
    lab: Lab, director: LabDirector, disturb: Callable[[Lab], None], again: Callable[[Lab], None]
) -> None:
    before = command(director, "events", "--types", "backend").stdout
    for do in (disturb, again):
        do(lab)
        for host in lab.backends:
            passes_again(director, host.name)

    assert command(director, "events", "--types", "backend").stdout == before
    assert director.ready


def passes_again(director: LabDirector, backend: str) -> None:
    """Wait for a check of each VIP on this backend that began after now and succeeded."""
    tries = {vip: tally(director, vip, backend) for vip in (VIP4, VIP6)}
    wait_until(
        lambda: all(tally(director, vip, backend) > tries[vip] + 1 for vip in tries),
        f"{backend} is asked",
        10.0,
    )


def tally(director: LabDirector, vip: Address, backend: str) -> int:
    """Checks that succeeded, as the metrics count them."""
    text, _ = director.client.text("/metrics", "text/plain")
    address = view(director, backend)["address"]
    counts = {"duration_seconds_count": 0, "failures_total": 0}
    for line in text.splitlines():
        for name in counts:
            if line.startswith(f"xdpdirector_check_{name}{{") and str(vip) in line and f'"{address}"' in line:
                counts[name] = int(float(line.split()[-1]))
    return counts["duration_seconds_count"] - counts["failures_total"]
