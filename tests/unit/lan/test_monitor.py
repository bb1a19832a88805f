# SPDX-License-Identifier: Apache-2.0
"""The director looks after a made-up network: what it asks, what it finds, and how soon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from scapy.layers.inet import TCP
from scapy.layers.l2 import ARP, Ether

from tests.support.lan_network import (
    DIRECTOR4,
    OTHER_MAC,
    STRANGER,
    STRANGER_MAC,
    VIP4,
    VIP6,
    WEB1,
    WEB1_MAC,
    WEB2,
    WEB2_MAC,
    Machine,
    Network,
    backend,
    neighbour,
    services,
    text,
)
from tests.support.stage import story, until
from xdpdirector.lan.monitor import Lan
from xdpdirector.lan.timing import Pace
from xdpdirector.lan.types import FindingKind
from xdpdirector.model import Address
from xdpdirector.model.lan import LanSpec
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.next_hop import Route
from xdpdirector.system.background_tasks import BackgroundTasks

QUICK = Pace(answer=0.02, to_one=0.001, to_all=0.002, judging=0.005, neighbours=0.1)
SLOW = QUICK._replace(answer=0.5)
"""For tests in which an answer that comes late, as on a busy machine, would be asked for again."""
SELDOM = LanSpec(interval="1h")
OFTEN = LanSpec(interval="20ms")


class World:
    """web1 and web2 as they shall be. `told` are the events."""

    def __init__(self, spec: LanSpec = OFTEN, pace: Pace = QUICK) -> None:
        self.web1, self.web2 = backend(WEB1, WEB1_MAC), backend(WEB2, WEB2_MAC)
        self.network = Network(self.web1, self.web2)
        self.routes = {WEB1: neighbour(WEB1_MAC), WEB2: neighbour(WEB2_MAC)}
        self.told: list[tuple[str, str]] = []
        self.tasks = BackgroundTasks(sleep=lambda _: asyncio.sleep(0))
        self.lan = Lan(
            spec,
            ["eth0"],
            self,
            services=lambda: services(web1=WEB1, web2=WEB2),
            route=self.routes.__getitem__,
            wire=self.network,
            surroundings=self.network,
            pace=pace,
            tasks=self.tasks,
        )

    def publish(self, kind: str, subject: str, text: str, **data: Any) -> None:
        self.told.append((kind, subject))

    def found(self) -> set[tuple[str, str]]:
        return {(finding.kind.value, finding.subject) for finding in self.lan.findings}

    async def finds(self, *found: tuple[str, str]) -> None:
        await until(lambda: self.found() == set(found))

    async def looked(self) -> None:
        """Everybody was asked once."""
        await until(lambda: len(self.lan.view().presence) == 4)

    def moves(self, address: Address, route: Route) -> None:
        self.routes[address] = route
        self.lan.route_changed(address)


@asynccontextmanager
async def world(spec: LanSpec = OFTEN, pace: Pace = QUICK, **changes: Any) -> AsyncIterator[World]:
    made = World(spec, pace)
    for name, value in changes.items():
        setattr(made.network, name, value)
    await made.lan.start()
    try:
        yield made
    finally:
        await made.lan.close()


@story
async def test_a_watch_that_fails_is_said_and_begins_anew() -> None:
    made = World()
    links, failures = made.network.links, iter([ValueError("a mistake"), OSError("the kernel is silent")])

    def links_of_a_bad_moment() -> list[Interface]:
        if error := next(failures, None):
            raise error
        return links()

    made.network.links = links_of_a_bad_moment  # type: ignore[method-assign]
    await made.lan.start()
    try:
        await made.looked()

        assert made.tasks.problems() == [
            "the watch over the network failed and is restarted: ValueError: a mistake"
        ]
    finally:
        await made.lan.close()


@story
async def test_a_network_as_it_shall_be() -> None:
    async with world(SELDOM) as made:
        await made.looked()

        view = made.lan.view()
        assert view.findings == ()
        assert {one.presence for one in view.presence} == {"present"}
        assert [(one.backends, one.mac) for one in view.neighbours] == [
            (("web/web1",), text(WEB1_MAC)),
            (("web/web2",), text(WEB2_MAC)),
        ]
        assert view.vips == {str(VIP4): ("eth0",), str(VIP6): ("eth0",)}


@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ARP", "neighbour discovery"])
def test_a_backend_that_answers_for_the_vip_is_found_until_it_is_quiet(vip: Address) -> None:
    @story
    async def tell() -> None:
        async with world() as made:
            made.web2.arp.add(vip)
            await made.finds(("vip-answered-by-backend", "web/web2"))

            made.web2.arp.remove(vip)
            await made.finds()
            assert made.told == [("lan.vip-answered-by-backend", "web/web2"), ("lan.cleared", "web/web2")]

    tell()


@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["IPv4", "IPv6"])
def test_a_second_owner_of_the_vip_is_found(vip: Address) -> None:
    @story
    async def tell() -> None:
        async with world() as made:
            made.network.machines.append(Machine(STRANGER_MAC, arp={STRANGER, vip}, has={vip}))
            await made.finds(("duplicate-vip", str(vip)))

    tell()


@story
async def test_a_second_owner_who_announces_himself_is_asked_at_once() -> None:
    async with world(SELDOM) as made:
        await made.looked()
        thief = Machine(STRANGER_MAC, arp={VIP4}, has={VIP4})
        made.network.machines.append(thief)

        request = ARP(op=1, hwsrc=text(STRANGER_MAC), psrc=str(VIP4), pdst=str(VIP4))
        made.network.hear(bytes(Ether(src=text(STRANGER_MAC), dst="ff:ff:ff:ff:ff:ff") / request))

        await made.finds(("duplicate-vip", str(VIP4)))


@story
async def test_an_announcement_that_nobody_stands_by_is_no_finding() -> None:
    async with world(SELDOM) as made:
        await made.looked()
        asked = len(made.network.sent)

        request = ARP(op=1, hwsrc=text(STRANGER_MAC), psrc=str(VIP4), pdst=str(VIP4))
        made.network.hear(bytes(Ether(src=text(STRANGER_MAC), dst="ff:ff:ff:ff:ff:ff") / request))
        await until(lambda: len(made.network.sent) > asked)
        await made.lan.round()

        assert made.found() == set()


@story
async def test_a_backend_that_asks_with_the_vip_is_found_without_being_asked() -> None:
    async with world(SELDOM) as made:
        await made.looked()

        request = ARP(op=1, hwsrc=text(WEB1_MAC), psrc=str(VIP4), pdst=str(DIRECTOR4))
        made.network.hear(bytes(Ether(src=text(WEB1_MAC), dst="ff:ff:ff:ff:ff:ff") / request))

        await made.finds(("vip-announced-by-backend", "web/web1"))


@pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({}, id="silently"),
        pytest.param({"forwards": True}, id="as a router"),
        pytest.param({"pings": False}, id="without echo"),
    ],
)
def test_a_backend_without_the_vip_is_found_until_it_has_it(vip: Address, change: dict[str, Any]) -> None:
    @story
    async def tell() -> None:
        async with world() as made:
            made.web1.has.remove(vip)
            for name, value in change.items():
                setattr(made.web1, name, value)
            await made.finds(("vip-missing-on-backend", "web/web1"))

            made.web1.has.add(vip)
            await made.finds()

    tell()


@story
async def test_a_kernel_that_refuses_a_probe_is_no_failure_of_the_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Probes whether backends have their VIPs run side by side: their errors come as a group."""
    async with world() as made:
        await made.looked()
        sent = made.network.send

        def refuse(interface: str, frame: bytes) -> bool:
            if asyncio.current_task() and frame[12:14] == b"\x08\x00":  # not the broadcasts for addresses
                raise OSError("the network is down")
            return sent(interface, frame)

        made.network.send = refuse  # type: ignore[method-assign]
        await until(lambda: "probing the network failed: the network is down" in caplog.text)

        assert made.tasks.problems() == []


@pytest.mark.parametrize(
    ("change", "presence"),
    [
        pytest.param({"pings": False}, "present", id="no echo, but TCP"),
        pytest.param({"ports": None}, "present", id="no TCP, but echo"),
        pytest.param({"ports": set()}, "present", id="TCP refused"),
        pytest.param({"pings": False, "ports": None}, "unknown", id="nothing"),
    ],
)
def test_a_firewall_is_not_taken_for_a_missing_vip(change: dict[str, Any], presence: str) -> None:
    @story
    async def tell() -> None:
        made = World(SELDOM)
        for name, value in change.items():
            setattr(made.web1, name, value)
        await made.lan.start()
        try:
            await made.looked()

            shown = {one.presence for one in made.lan.view().presence if one.address == WEB1}
            assert shown == {presence}
            assert made.lan.findings == ()
        finally:
            await made.lan.close()

    tell()


@story
async def test_an_opened_connection_is_taken_back() -> None:
    async with world(SELDOM, SLOW) as made:
        made.web1.pings = False
        await made.looked()

        packets = [Ether(frame) for frame in made.network.sent]
        flags = [str(packet[TCP].flags) for packet in packets if TCP in packet]
        assert (flags[0], sorted(flags)) == ("S", ["R", "R", "S", "S"])  # each answer by itself, in no order


@story
async def test_a_changed_mac_is_told_and_counted() -> None:
    async with world(SELDOM) as made:
        await made.looked()
        made.web1.mac = OTHER_MAC
        made.moves(WEB1, neighbour(OTHER_MAC))

        assert made.told == [("lan.mac-changed", "web/web1")]
        [shown] = [one for one in made.lan.view().neighbours if one.address == WEB1]
        assert (shown.mac, shown.mac_changes) == (text(OTHER_MAC), 1)


@story
async def test_two_machines_with_one_address_are_found_when_the_mac_flaps() -> None:
    async with world(SELDOM) as made:
        await made.looked()
        made.network.machines.append(backend(WEB1, OTHER_MAC))

        made.moves(WEB1, neighbour(OTHER_MAC))

        await made.finds(("duplicate-backend-address", "web/web1"))


@story
async def test_a_suspected_backend_is_asked_for_at_once() -> None:
    async with world(SELDOM) as made:
        await made.looked()
        made.network.sent.clear()

        made.lan.suspect(WEB1)
        made.lan.suspect(WEB1)
        await until(lambda: any(ARP in Ether(frame) for frame in made.network.sent))

        [asked] = [Ether(frame)[ARP] for frame in made.network.sent if ARP in Ether(frame)]
        assert (asked.psrc, asked.pdst) == (str(DIRECTOR4), str(WEB1))


@story
async def test_what_the_neighbour_table_says_is_found_without_a_probe() -> None:
    async with world(LanSpec(interval="20ms", probe=False)) as made:
        made.moves(WEB1, Route("unresolved", interface="eth0", why="192.0.2.21 does not answer ARP on eth0"))
        made.moves(WEB2, neighbour(WEB2_MAC))

        await made.finds(("backend-unreachable", "web/web1"))
        assert made.network.sent == []
        assert not made.lan.view().probing


@story
async def test_a_gateway_that_drops_its_backends_replies_is_found_until_it_is_mended() -> None:
    async with world() as made:
        made.network.drops = {"eth0": "accept_local is 0", "eth9": "accept_local is 0"}
        await made.finds(("replies-dropped-here", "eth0"))
        [finding] = made.lan.findings

        assert "their gateway" in finding.text
        assert "net.ipv4.conf.eth0.accept_local=1" in finding.remedy
        made.network.drops = {}
        await made.finds()


@story
async def test_without_the_right_to_ask_that_is_the_finding() -> None:
    async with world(refuse=PermissionError(1, "Operation not permitted")) as made:
        await until(lambda: [one.kind for one in made.lan.findings] == [FindingKind.BLIND])


@story
async def test_one_look_of_the_doctors_finds_what_is_lost_at_once() -> None:
    made = World(SELDOM)
    made.routes[WEB1] = Route("unresolved", interface="eth0", why="192.0.2.21 does not answer ARP on eth0")
    made.web2.has.remove(VIP4)

    await made.lan.look_once()
    await made.lan.close()

    assert made.found() == {("backend-unreachable", "web/web1"), ("vip-missing-on-backend", "web/web2")}


@story
async def test_a_backend_by_which_the_director_reaches_the_world_is_told() -> None:
    async with world() as made:
        await made.looked()
        made.network.routers = {WEB1: None}

        await made.finds(("backend-is-router", "web/web1"))
