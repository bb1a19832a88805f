# SPDX-License-Identifier: Apache-2.0
"""A user of AF_XDP on the director's interface. An interface has one program: whose it is gets the frames."""

from __future__ import annotations

import errno

import pytest

from tests.support.af_xdp import PROGRAM, AfXdpSocket
from tests.support.lab_client import answering, await_each
from tests.support.lab_director import CHECK, command, directing
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import FIRST_ARM, VIP4
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

INTERFACE = FIRST_ARM.interface


def ping(lab: Lab, host: Host) -> bool:
    done = lab.client.run("ping", "-c", "1", "-W", "1", str(host.node.ipv4), check=False)
    return done.returncode == 0


def test_a_socket_beside_the_director_gets_nothing_and_takes_nothing(lab: Lab) -> None:
    with (
        directing(lab, web_configuration(lab.topology.backend_nodes, check=CHECK)) as director,
        AfXdpSocket(director.host, INTERFACE) as beside,
    ):
        before = director.host.xdp_program(INTERFACE)

        await_each({host.name for host in lab.backends}, lambda: answering(lab.client, VIP4))
        assert ping(lab, director.host)
        with pytest.raises(OSError, match="busy") as refusal, beside.redirecting():
            pass

        assert refusal.value.errno == errno.EBUSY
        assert director.host.xdp_program(INTERFACE) == before
        assert beside.received() == 0


def test_a_director_leaves_the_program_of_af_xdp_alone_and_the_doctor_names_it(lab: Lab) -> None:
    director = LabDirector(lab.director_host, lab.topology.instance)
    director.configure(web_configuration(lab.topology.backend_nodes, check=CHECK))
    words = ("--config", str(director.configuration))
    with AfXdpSocket(director.host, INTERFACE) as opened, opened.redirecting():
        refused = command(director, "load", *words, check=False)
        doctor = command(director, "doctor", *words, check=False)

        assert not ping(lab, director.host)
        wait_until(lambda: opened.received() > 0, "the socket gets frames")
    command(director, "unload")

    assert refused.returncode != 0
    assert f"{INTERFACE} carries an XDP program that is not this director's" in refused.stderr
    assert f"name '{PROGRAM}'" in refused.stderr
    assert f"{INTERFACE} carries somebody else's XDP program" in doctor.stdout
    assert f"'{PROGRAM}'" in doctor.stdout
