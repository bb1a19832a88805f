# SPDX-License-Identifier: Apache-2.0
"""Whom a check asks, and what it says when a VIP does not answer but the backend's own address does."""

import asyncio
import errno
import socket
from ipaddress import ip_address
from math import inf
from typing import Any

import pytest

from tests.support.fake_probe import FakeProbe
from xdpdirector.health.check_namespace import Inside
from xdpdirector.health.checks import (
    CheckFailed,
    Dial,
    NoWay,
    Target,
    direct,
)
from xdpdirector.health.checks.dialer import PlainWays, RouteOf, attempt
from xdpdirector.health.rise_fall import HealthReport
from xdpdirector.health.targets import known_before, targets, verdict_on
from xdpdirector.health.vip_network import CheckNetwork
from xdpdirector.model import Address, ServiceSpec
from xdpdirector.model.checks import CheckSpec, TcpCheck
from xdpdirector.model.status import Operational
from xdpdirector.net.next_hop import Route

VIP, VIP6, BACKEND = (ip_address(text) for text in ("192.0.2.10", "2001:db8::10", "192.0.2.21"))
MAC, OWN = bytes.fromhex("020000000021"), bytes.fromhex("020000000001")
SPEC = TcpCheck(type="tcp", interval=5.0, timeout=1.0)
HERE = Target(VIP, 80, BACKEND)
SILENT = f"no answer from {HERE} within 1s"
REFUSED = f"nothing listens on {HERE} (connection refused)"


def nowhere(_address: Address, _routed: bool = False) -> Route:
    return Route("off-link")


class Vips(PlainWays):
    """Ways that lead to VIPs."""

    async def prepare(self, target: Target, route: RouteOf) -> Target:
        return target


class Absent(FakeProbe):
    """Fails at VIPs as if nobody were there."""

    def __init__(self, sentence: str, absence: Any) -> None:
        super().__init__()
        self._failure, self.timeouts = CheckFailed(sentence, absence=absence), list[float]()

    async def __call__(self, spec: CheckSpec, target: Target, dial: Dial) -> float | None:
        self.timeouts.append(spec.timeout)
        if target.is_vip:
            raise self._failure
        assert dial is direct
        return await super().__call__(spec, target, dial)


def failure(probe: FakeProbe) -> str:
    with pytest.raises(CheckFailed) as failed:
        asyncio.run(attempt(SPEC, HERE, Vips(), nowhere, probe))
    return str(failed.value)


@pytest.mark.parametrize(
    ("absence", "sentence", "words"),
    [
        (
            "silent",
            SILENT,
            "while port 80 of 192.0.2.21 answers: the server has lost the VIP "
            "(ip address add 192.0.2.10/32 dev lo), or a firewall on it drops what is sent there",
        ),
        (
            "refused",
            REFUSED,
            "while port 80 of 192.0.2.21 answers: let the server listen on the VIP too, or ask its own address "
            "with `via: address`",
        ),
    ],
)
def test_the_classic_failure_is_named(absence: str, sentence: str, words: str) -> None:
    probe = Absent(sentence, absence)

    assert failure(probe) == f"{sentence}, {words}"
    assert probe.timeouts == [1.0, 0.25]


def test_a_server_that_is_dead_altogether_is_just_that() -> None:
    probe = Absent(SILENT, "silent")
    probe.failures[BACKEND] = "no answer there either"

    assert failure(probe) == SILENT


def test_a_server_that_answered_is_asked_no_further() -> None:
    probe = Absent("it answered 503", "")

    assert failure(probe) == "it answered 503"
    assert probe.timeouts == [1.0]


class Disturbed(FakeProbe):
    """Something happens to the director's network while a backend is asked, which then seems dead."""

    def __init__(self, after: Route) -> None:
        super().__init__()
        self._after = after
        self.way = Route("neighbour", MAC, OWN, 2, "eth0")

    async def __call__(self, spec: CheckSpec, target: Target, dial: Dial) -> float | None:
        self.way = self._after
        if not target.is_vip:
            return await super().__call__(spec, target, dial)
        raise CheckFailed(SILENT, absence="silent")


@pytest.mark.parametrize(
    ("after", "why"),
    [
        pytest.param(Route("neighbour", fault="no carrier"), "no carrier", id="a fault that lasts"),
        pytest.param(Route("neighbour", disturbed=inf), "disturbed while", id="one that is over already"),
    ],
)
def test_a_fault_of_the_directors_own_is_no_failure_of_the_backend(after: Route, why: str) -> None:
    probe = Disturbed(after)

    with pytest.raises(NoWay, match=why):
        asyncio.run(attempt(SPEC, HERE, Vips(), lambda _address, _routed: probe.way, probe))


def test_an_earlier_disturbance_excuses_nobody() -> None:
    probe = Disturbed(Route("neighbour", disturbed=0.0))

    with pytest.raises(CheckFailed, match="the server has lost the VIP"):
        asyncio.run(attempt(SPEC, HERE, Vips(), lambda _address, _routed: probe.way, probe))


def test_nobody_is_asked_while_the_directors_own_network_is_at_fault() -> None:
    probe = FakeProbe()

    with pytest.raises(NoWay, match="no carrier"):
        asyncio.run(
            attempt(
                SPEC, HERE, Vips(), lambda _address, _routed: Route("neighbour", fault="no carrier"), probe
            )
        )
    assert not probe.asked


def test_plain_ways_ask_the_backends_own_address() -> None:
    fake = FakeProbe()

    asyncio.run(attempt(SPEC, HERE, PlainWays(), nowhere, fake))

    assert fake.asked == {(BACKEND, 80): 1}
    with asyncio.run(PlainWays().dial(HERE.direct(), socket.SOCK_STREAM)) as opened:
        assert not opened.getblocking()


NEIGHBOUR = Route("neighbour", MAC, OWN, 1 << 20, "eth7")  # of no interface that is there


def test_where_the_kernel_refuses_checks_ask_the_backends_own_address() -> None:
    now, tries = [0.0], []

    async def refuse() -> Inside:
        tries.append(now[0])
        raise PermissionError(errno.EPERM, "Operation not permitted")

    network = CheckNetwork("test-ways", enter=refuse, clock=lambda: now[0])
    found = []
    for now[0] in (0.0, 1.0, 100.0):
        found.append(asyncio.run(network.prepare(HERE, lambda _address, _routed: NEIGHBOUR)))

    assert found == [HERE.direct()] * 3
    assert tries == [0.0, 100.0]
    assert network.notes() == [
        "checks by eth7, IPv4 ask the backends' own addresses, and do not see whether a server has its VIP: "
        "Operation not permitted; let root start the daemon: it makes the checks' namespace before it becomes its "
        "`user`"
    ]


def test_checks_that_waited_for_a_refusal_do_not_ask_once_more_each() -> None:
    tries = []

    async def refuse() -> Inside:
        tries.append(1)
        await asyncio.sleep(0.01)
        raise TimeoutError(errno.ETIMEDOUT, "no answer")

    async def story() -> list[Target]:
        network = CheckNetwork("test-ways", enter=refuse)
        prepared = (network.prepare(HERE, lambda _address, _routed: NEIGHBOUR) for _ in range(5))
        return await asyncio.gather(*prepared)

    assert asyncio.run(story()) == [HERE.direct()] * 5
    assert len(tries) == 1


def test_a_backend_that_cannot_be_found_is_not_asked() -> None:
    network = CheckNetwork("test-ways")

    route = Route("unresolved", why="it does not answer ARP")
    with pytest.raises(NoWay, match="it does not answer ARP"):
        asyncio.run(network.prepare(HERE, lambda _address, _routed: route))


@pytest.mark.parametrize(
    ("target", "route"),
    [(HERE, Route("local")), (HERE.direct(), NEIGHBOUR)],
    ids=["the director itself", "its own address"],
)
def test_the_plain_way_where_it_will_do(target: Target, route: Route) -> None:
    network = CheckNetwork("test-ways")

    assert asyncio.run(network.prepare(target, lambda _address, _routed: route)) == target
    with asyncio.run(network.dial(target, socket.SOCK_STREAM)) as opened:
        assert not opened.getblocking()
    assert network.notes() == []


@pytest.mark.parametrize(
    ("listeners", "check", "asked"),
    [
        pytest.param(["192.0.2.10:80/tcp"], None, [], id="no check"),
        pytest.param(["192.0.2.10:80/tcp"], {"type": "tcp"}, [(VIP, 80)], id="the VIP"),
        pytest.param(
            ["192.0.2.10:80/tcp", "192.0.2.10:443/tcp", "[2001:db8::10]:80/tcp"],
            {"type": "http"},
            [(VIP, 80), (VIP6, 80)],
            id="each VIP once",
        ),
        pytest.param(
            ["192.0.2.10:80/tcp", "[2001:db8::10]:443/tcp"],
            {"type": "http"},
            [(VIP, 80)],
            id="VIPs with that port",
        ),
        pytest.param(
            ["192.0.2.10:80/tcp", "[2001:db8::10]:443/tcp"],
            {"type": "http", "port": 8080},
            [(VIP, 8080), (VIP6, 8080)],
            id="a port for health only",
        ),
        pytest.param(
            ["192.0.2.10:8000-8099/tcp", "[2001:db8::10]:*/tcp"],
            {"type": "tcp", "port": 8001},
            [(VIP, 8001), (VIP6, 8001)],
            id="ranges",
        ),
        pytest.param(
            ["192.0.2.10:80/tcp", "[2001:db8::10]:443/tcp"],
            {"type": "icmp"},
            [(VIP, 0), (VIP6, 0)],
            id="no port",
        ),
        pytest.param(
            ["192.0.2.10:80/tcp"], {"type": "tcp", "via": "address"}, [(BACKEND, 80)], id="its own address"
        ),
        pytest.param(["192.0.2.10:80/tcp"], {"type": "agent", "port": 9}, [(BACKEND, 9)], id="an agent"),
        pytest.param(
            ["192.0.2.10:80/tcp"], {"type": "exec", "command": ["/bin/true"]}, [(BACKEND, 0)], id="a program"
        ),
    ],
)
def test_targets(listeners: list[str], check: Any, asked: list[tuple[Address, int]]) -> None:
    service = ServiceSpec.model_validate(
        {"listeners": listeners, "check": check, "backends": {"web1": {"address": str(BACKEND)}}}
    )

    found = targets(service, service.backends["web1"])

    assert found == tuple(Target(address, port, BACKEND) for address, port in asked)


OTHER, OTHER6 = ip_address("192.0.2.11"), ip_address("2001:db8::11")
UP, DOWN, UNKNOWN = (
    HealthReport(state, "", 0.0) for state in (Operational.UP, Operational.DOWN, Operational.UNKNOWN)
)


@pytest.mark.parametrize(
    ("vip", "reports", "verdict"),
    [
        pytest.param(VIP, {VIP: DOWN, OTHER: UP}, DOWN, id="its own"),
        pytest.param(VIP, {BACKEND: DOWN}, DOWN, id="the backend's address is asked"),
        pytest.param(VIP6, {BACKEND: UP}, UP, id="the backend's address is of the other family"),
        pytest.param(VIP, {OTHER: DOWN, VIP6: UP}, DOWN, id="not asked: by its family"),
        pytest.param(VIP, {OTHER6: DOWN, VIP6: UP}, UP, id="not asked, nor its family: by the best"),
        pytest.param(VIP, {OTHER: DOWN, BACKEND: UNKNOWN}, UNKNOWN, id="not asked: unknown before down"),
    ],
)
def test_each_vip_has_a_verdict(
    vip: Address, reports: dict[Address, HealthReport], verdict: HealthReport
) -> None:
    assert verdict_on(vip, reports) is verdict


@pytest.mark.parametrize(
    ("asked", "known", "carried"),
    [
        pytest.param([VIP, OTHER], {VIP: UP}, {VIP: UP}, id="a new VIP"),
        pytest.param([OTHER], {VIP: UP, OTHER: DOWN}, {OTHER: DOWN}, id="a VIP that goes"),
        pytest.param(
            [BACKEND], {VIP: DOWN, OTHER: UP}, {BACKEND: UP}, id="the backend's address from now on"
        ),
        pytest.param([VIP], {}, {}, id="nothing is known"),
        pytest.param([BACKEND], {}, {}, id="nothing is known, its own address"),
    ],
)
def test_what_is_known_is_of_vips(
    asked: list[Address], known: dict[Address, HealthReport], carried: dict[Address, HealthReport]
) -> None:
    assert known_before([Target(address, 80, BACKEND) for address in asked], known) == carried
