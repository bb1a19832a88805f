# SPDX-License-Identifier: Apache-2.0
"""Two directors on one machine, in one network namespace: each on an interface of its own.

The first serves the lab's client on eth0. The second has a VIP on the second arm, where backend2 is its client
and backend1 its only backend.
"""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

from tests.support.lab_client import Conversation, answering, await_each
from tests.support.lab_director import CHECK, becomes, command, directing
from xdpdirector.errors import ConflictError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4
from xdpdirector.paths import InstancePaths

pytestmark = pytest.mark.root

OTHER_VIP = IPv4Address("198.51.100.10")


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=2, two_arm=True)
    for host in lab.backends:
        lab.nginx(host.name)
    lab.host("backend1").run("ip", "address", "add", f"{OTHER_VIP}/32", "dev", "lo")
    return lab


@pytest.fixture(scope="module")
def first(lab: Lab) -> Iterator[LabDirector]:
    configuration = web_configuration(lab.topology.backend_nodes, check=CHECK)
    for node in lab.topology.backend_nodes:
        configuration["services"][SERVICE]["backends"][node.name]["address"] = str(node.ipv4)
    with directing(lab, {**configuration, "interfaces": ["eth0"]}) as director:
        yield director


@pytest.fixture(scope="module")
def second(lab: Lab, first: LabDirector) -> LabDirector:
    """The lab takes it down: it is called like the first one, and something more."""
    configuration = web_configuration(lab.topology.backend_nodes[:1], check=CHECK)
    configuration["services"][SERVICE]["listeners"] = [f"{OTHER_VIP}:80/tcp"]
    director = LabDirector(lab.director_host, InstancePaths(f"{first.paths.name}-second"))
    director.configure({**configuration, "interfaces": ["eth1"]})
    director.start()
    becomes(director, "backend1", "up")
    return director


def both_answer(lab: Lab) -> None:
    """The backends of the first: the one with fewer connections until both have as many, and then in turn."""
    await_each({"backend1", "backend2"}, lambda: answering(lab.client, VIP4), 10.0)


def programs(lab: Lab) -> list[int | None]:
    return [lab.director_host.xdp_program(interface) for interface in ("eth0", "eth1")]


def test_both_serve_and_neither_knows_of_the_other(lab: Lab, first: LabDirector, second: LabDirector) -> None:
    by_second = answering(lab.host("backend2"), OTHER_VIP)

    both_answer(lab)
    assert by_second == "backend1"
    attached = [one.client.get("/v1/stats")["attachments"] for one in (first, second)]
    assert [[each["interface"] for each in one] for one in attached] == [["eth0"], ["eth1"]]
    assert [[each["program_id"] for each in one] for one in attached] == [[one] for one in programs(lab)]


@pytest.mark.parametrize("options", [(), ("--force",)], ids=["load", "load --force"])
def test_a_third_is_told_whose_program_is_where_it_wants_to_be(
    lab: Lab, first: LabDirector, options: tuple[str, ...]
) -> None:
    third = LabDirector(lab.director_host, InstancePaths(f"{first.paths.name}-third"))
    third.configure({"interfaces": ["eth0"]})
    before = programs(lab)

    done = command(third, "load", "--config", str(third.configuration), *options, check=False)

    assert done.returncode == ConflictError.exit_code
    assert f"eth0 carries the packet program of instance '{first.paths.name}'" in done.stderr
    assert "xdp off" not in done.stderr
    assert programs(lab) == before


def kill(lab: Lab, director: LabDirector) -> None:
    director.kill()
    director.start()


def stop(lab: Lab, director: LabDirector) -> None:
    assert director.stop()
    director.start()


def load_again(lab: Lab, director: LabDirector) -> None:
    command(director, "load", "--config", str(director.configuration))


def unload(lab: Lab, director: LabDirector) -> None:
    director.stop()
    command(director, "unload")
    assert programs(lab)[1] is None
    director.start()


@pytest.mark.parametrize("do", [kill, stop, load_again, unload], ids=lambda do: do.__name__)
def test_what_becomes_of_one_is_nothing_to_the_other(
    lab: Lab, first: LabDirector, second: LabDirector, do: Callable[[Lab, LabDirector], None]
) -> None:
    before = programs(lab)[0]
    with Conversation(lab.client, VIP4) as conversation:
        do(lab, second)

        assert programs(lab)[0] == before
        assert conversation.who() == conversation.backend
        assert first.ready
    becomes(second, "backend1", "up")
    assert answering(lab.host("backend2"), OTHER_VIP) == "backend1"
    both_answer(lab)
