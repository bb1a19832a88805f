# SPDX-License-Identifier: Apache-2.0
"""What a scheduler does to real connections: turns, affinity, the fallback, and limits."""

import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.support.lab_client import Conversation, answering, family_of, socket_on
from tests.support.lab_director import CHECK, becomes, directing, view
from tests.support.many_clients import sources
from xdpdirector.client import service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

pytestmark = pytest.mark.root

VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])
QUICK = {"tcp": "60s", "tcpfin": "1s", "syn": "5s", "udp": "5s"}
CLIENTS = 16
LIMIT = 3
SWEPT = 20.0  # seconds until an ended connection is surely forgotten


@pytest.fixture(scope="module")
def director(lab: Lab) -> Iterator[LabDirector]:
    """One for all tests, each of which gives it another service in the place of the one before."""
    with directing(lab, web_configuration(lab.topology.backend_nodes, check=CHECK)) as director:
        yield director


def serve(
    lab: Lab,
    director: LabDirector,
    scheduler: str,
    backends: Mapping[str, Mapping[str, int]] | None = None,
    **options: str,
) -> None:
    """A new service as said, with what is said of some backends; wait until all are up.

    The service of the test before goes first: its ring would serve on until its flows have ended."""
    nodes = lab.topology.backend_nodes
    service = web_configuration(nodes, scheduler=scheduler, check=CHECK, timeouts=QUICK)["services"][SERVICE]
    for name, value in (backends or {}).items():
        service["backends"][name].update(value)
    director.client.delete(service_path(SERVICE))
    director.client.put(service_path(SERVICE), {**service, **options})
    for name in names(lab):
        becomes(director, name, "up")


def names(lab: Lab) -> list[str]:
    return [host.name for host in lab.backends]


def test_max_connections_holds(lab: Lab, director: LabDirector) -> None:
    limits = {"max_connections": LIMIT, "resume_connections": LIMIT}
    serve(lab, director, "rr", dict.fromkeys(names(lab), limits))
    wait_until(lambda: not any(held(director, name) for name in names(lab)), "earlier ones are gone", SWEPT)

    with ExitStack() as stack:
        vips: list[Address] = [VIP4, VIP6, VIP4] * LIMIT  # a place for each
        running = [stack.enter_context(Conversation(lab.client, vip)) for vip in vips]
        assert Counter(one.backend for one in running) == dict.fromkeys(names(lab), LIMIT)
        for vip in (VIP4, VIP6):
            with pytest.raises(ConnectionRefusedError):
                answering(lab.client, vip)
        assert [one.who() for one in running] == [one.backend for one in running]

        leaver = running[4]
        leaver.close()
        wait_until(lambda: held(director, leaver.backend) < LIMIT, f"a place at {leaver.backend}", SWEPT)
        assert answering(lab.client, VIP6) == leaver.backend


def held(director: LabDirector, backend: str) -> int:
    counts = view(director, backend)["connections"]
    return int(counts["active"] + counts["inactive"])


def test_rr_gives_exact_turns_whatever_the_weights(lab: Lab, director: LabDirector) -> None:
    serve(lab, director, "rr", {"backend2": {"weight": 7}})

    for vip in (VIP4, VIP6):
        answers = [answering(lab.client, vip) for _ in range(30)]

        assert answers == answers[:3] * 10
        assert sorted(answers[:3]) == names(lab)


def test_wrr_gives_exact_shares_by_weight(lab: Lab, director: LabDirector) -> None:
    weights = {"backend1": 1, "backend2": 2, "backend3": 3}
    serve(lab, director, "wrr", {name: {"weight": weight} for name, weight in weights.items()})

    answers = Counter(answering(lab.client, vip) for vip in (VIP4, VIP6) for _ in range(30))

    assert answers == {name: 10 * weight for name, weight in weights.items()}


@VIPS
def test_sh_keeps_each_client_on_one_backend(lab: Lab, director: LabDirector, vip: Address) -> None:
    serve(lab, director, "sh")

    homes = [who_serves(lab, vip, source) for source in sources(lab, vip, CLIENTS)]

    assert {len(home) for home in homes} == {1}
    assert set.union(*homes) == set(names(lab))


def who_serves(lab: Lab, vip: Address, source: str) -> set[str]:
    """All who answer one client's connections."""
    answers = set()
    for _ in range(6):
        with socket_on(lab.client, family_of(vip), socket.SOCK_STREAM) as opened:
            opened.settimeout(5.0)
            opened.bind((source, 0))
            opened.connect((str(vip), 80))
            opened.sendall(b"GET /who HTTP/1.0\r\n\r\n")
            with opened.makefile("rb") as reply:
                answers.add(reply.read().split()[-1].decode())
    return answers


@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
def test_the_fallback_serves_when_all_others_are_down(
    lab: Lab, director: LabDirector, scheduler: str
) -> None:
    *others, spare = names(lab)
    serve(lab, director, scheduler, {spare: {"weight": 0}}, fallback=spare)
    assert everyone_answering(lab) == set(others)

    with ExitStack() as stack:
        for name in others:
            stack.callback(lab.nginx(name).start)
            lab.nginx(name).stop()
        for name in others:
            becomes(director, name, "down")
        assert everyone_answering(lab) == {spare}

        lab.nginx(others[0]).start()
        becomes(director, others[0], "up")
        assert everyone_answering(lab) == {others[0]}


def everyone_answering(lab: Lab) -> set[str]:
    return {answering(lab.client, vip) for vip in (VIP4, VIP6) for _ in range(12)}
