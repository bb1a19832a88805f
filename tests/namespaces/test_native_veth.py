# SPDX-License-Identifier: Apache-2.0
"""Native mode on a veth whose peer is not ready loses every packet: the director and the doctor say so, with both
remedies, while it lasts."""

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.support.lab_client import answering
from tests.support.lab_director import CHECK, command, directing
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

Break = Callable[[Host, str], object]


@pytest.fixture(scope="module")
def director(lab: Lab) -> Iterator[LabDirector]:
    with directing(lab, web_configuration(lab.topology.backend_nodes, check=CHECK)) as director:
        yield director


@pytest.fixture
def port(lab: Lab, director: LabDirector) -> Iterator[str]:
    """The director's, on the switch; as it shall be before and afterwards."""
    name = lab.topology.director.port()
    yield name
    make_ready(lab, name)
    wait_until(lambda: director.ready, "the director is ready", 30.0)


def make_ready(lab: Lab, port: str) -> None:
    lab.switch.run("ethtool", "-K", port, "tx", "off")
    lab.switch.run(sys.executable, "-m", "xdpdirector.lab.xdp_pass_port", port)


def with_offload(switch: Host, port: str) -> None:
    switch.run("ethtool", "-K", port, "tx", "on")


def without_program(switch: Host, port: str) -> None:
    switch.run("ip", "link", "set", "dev", port, "xdp", "off")


def attachment(director: LabDirector) -> dict[str, object]:
    [found] = director.client.get("/v1/stats")["attachments"]
    return dict(found)


def problem(director: LabDirector) -> str:
    problems = director.client.get("/readyz")["problems"]
    return next((each for each in problems if "loses what is sent on" in each), "")


def test_auto_takes_native_mode_where_the_peer_is_ready(director: LabDirector) -> None:
    assert attachment(director)["mode"] == "native"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        pytest.param(with_offload, "leaves checksums to the hardware", id="checksums"),
        pytest.param(without_program, "has no XDP program of its own", id="no program"),
    ],
)
def test_a_peer_that_is_not_ready_is_a_problem_while_it_lasts(
    lab: Lab, director: LabDirector, port: str, broken: Break, why: str
) -> None:
    broken(lab.switch, port)

    said = wait_until(lambda: problem(director), "it is a problem", 30.0)

    assert port in said
    assert why in said
    assert "XDP_PASS is enough" in said
    assert "tx off" in said
    assert "mode: generic" in said
    doctor = command(director, "doctor", "--config", str(director.configuration), check=False)
    assert why in doctor.stdout
    make_ready(lab, port)
    wait_until(lambda: not problem(director), "the problem is over", 60.0)
    assert answering(lab.client, VIP4)


def test_what_the_driver_lost_is_counted(lab: Lab, director: LabDirector, port: str) -> None:
    before = int(str(attachment(director)["transmit_errors"]))
    without_program(lab.switch, port)

    def lost() -> bool:
        with suppress(OSError):
            answering(lab.client, VIP4, timeout=0.2)
        return int(str(attachment(director)["transmit_errors"])) > before

    wait_until(lost, "frames that could not be transmitted are counted", 30.0)
    metrics = director.host.run(
        "curl", "-s", "--unix-socket", str(director.paths.socket), "http://director/metrics"
    ).stdout
    assert 'xdpdirector_interface_transmit_errors_total{interface="eth0"}' in metrics
