# SPDX-License-Identifier: Apache-2.0
"""The real plane as the director uses it: sweeps beside changes, drift, full maps, connections for people."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

import tests.support.world as w
from tests.support.ring_slots import NAMES, SLOTS, opened, ring
from xdpdirector.dataplane import conntrack, conntrack_list
from xdpdirector.dataplane.explain_types import Question
from xdpdirector.dataplane.kernel import RealPlane
from xdpdirector.dataplane.service_plan import ServicePlan, flags_of
from xdpdirector.errors import CapacityError, DataplaneError, InvalidRequestError
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Listener, Scheduler, ServiceSpec
from xdpdirector.model.connection_query import ConnectionQuery
from xdpdirector.model.status import ConnectionView
from xdpdirector.paths import InstancePaths

LATE = 10_000.0
MAIL = w.service(name="mail", listeners=(Listener.parse(f"{w.VIP}:25/tcp"),), members=(w.backend("web2"),))


def paths_of(world: w.World) -> InstancePaths:
    loaded: Loaded = world.tables.loaded
    return InstancePaths(loaded.pins.parent.name)


@pytest.fixture
def plane(world: w.World) -> Iterator[RealPlane]:
    """On the world's maps. It is the only one that writes them here; the world only sends frames."""
    with RealPlane(paths_of(world), world.tables.loaded) as opened:
        yield opened
        for name in opened.services():
            opened.remove(name)


# Sweeping


def test_flux_does_not_end_on_a_sweep_that_saw_other_owners(world: w.World, plane: RealPlane) -> None:
    async def story() -> tuple[bool, bool]:
        plane.apply(ring(NAMES), 0)
        opened(world)
        plane.apply(ring(NAMES, draining={"web1"}), 0)
        sweeping = asyncio.create_task(plane.sweep(LATE))
        await asyncio.sleep(0)
        plane.apply(ring(NAMES), LATE)
        await sweeping
        during = plane.is_settled("web")
        await plane.sweep(LATE)
        return during, plane.is_settled("web")

    assert asyncio.run(story()) == (False, True)


def test_marks_for_records_that_come_during_a_sweep_outlast_it(world: w.World, plane: RealPlane) -> None:
    """The sweep has read that part of the table before the record came, and the slot had its mark already."""

    async def story() -> tuple[set[int], set[int]]:
        tables, *_, rings = plane.connection_tables()
        plane.apply(ring(NAMES), 0)
        rings.mark_exceptions(np.array([7]))
        sweeping = asyncio.create_task(plane.sweep(LATE))
        await asyncio.sleep(0)
        rings.mark_exceptions(np.array([7]))
        await sweeping
        during = set(np.flatnonzero(flags_of(tables.ring[:SLOTS])).tolist())
        await plane.sweep(LATE)
        return during, set(np.flatnonzero(flags_of(tables.ring[:SLOTS])).tolist())

    assert asyncio.run(story()) == ({7}, set())


def test_a_sweep_that_is_cancelled_lets_the_maps_be_closed(world: w.World) -> None:
    async def story() -> None:
        with RealPlane(paths_of(world), world.tables.loaded) as plane:
            sweeping = asyncio.create_task(plane.sweep(0))
            await asyncio.sleep(0)
            sweeping.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sweeping

    asyncio.run(story())


def test_a_sweep_counts_what_it_found(world: w.World, plane: RealPlane) -> None:
    plane.apply(w.service(), 0)
    for sport in range(1, 6):
        world.send(w.tcp("S", sport=sport))
    world.send(w.tcp("A", sport=1))

    asyncio.run(plane.sweep(0))

    counts = plane.counts(("web", "web1"))
    assert (counts.active, counts.pending, plane.total_connections()) == (5, 4, 5)


def test_what_is_not_in_the_maps_counts_nothing(plane: RealPlane) -> None:
    assert plane.counts(("web", "web9")).active == 0
    assert plane.traffic([("web", "web9")])[("web", "web9")].packets == 0


# Drift


def test_a_listener_that_somebody_took_away_comes_back(world: w.World, plane: RealPlane) -> None:
    plane.apply(w.service(), 0)
    world.tables.delete_listener(*world.tables.listener_entries(w.LISTENERS[0]))
    asyncio.run(plane.sweep(0))
    lost = world.send(w.tcp()).reason

    repaired = plane.apply(w.service(), 0)

    assert (lost, repaired) == ("pass_no_listener", 1)
    assert world.send(w.tcp()).reason == "forward_new"


def test_a_listener_that_somebody_led_astray_comes_back(world: w.World, plane: RealPlane) -> None:
    plane.apply(w.service(), 0)
    plane.apply(MAIL, 0)
    world.tables.set_listener(world.tables.listener_entries(w.LISTENERS[0])[0], 1, 1)
    asyncio.run(plane.sweep(0))

    repaired = plane.apply(w.service(), 0) + plane.apply(MAIL, 0)

    assert repaired == 1
    assert world.send(w.tcp()).frame == w.to("web1", w.tcp())


def test_vips_that_somebody_took_away_come_back(world: w.World, plane: RealPlane) -> None:
    plane.apply(w.service(), 0)
    world.tables.set_vips(set(), set())
    lost = world.send(w.tcp()).reason

    asyncio.run(plane.sweep(0))

    assert lost == "pass_not_vip"
    assert world.send(w.tcp()).reason == "forward_new"


# No room


def many(count: int, **changes: object) -> ServicePlan:
    """That many listeners, all on one VIP."""
    listeners = tuple(Listener.parse(f"{w.VIP}:{1000 + number}/tcp") for number in range(count))
    return w.service(name="many", listeners=listeners, **changes)


def spec_of(plan: ServicePlan, vip: str = w.VIP) -> ServiceSpec:
    """What is wanted, as far as it takes room."""
    return ServiceSpec.model_construct(
        listeners=tuple(Listener(ip_address(vip), each.ports, each.protocol) for each in plan.listeners),
        scheduler=plan.scheduler,
        ring_slots=plan.ring_slots,
        backends={member.name: None for member in plan.members},
    )


@pytest.mark.parametrize(
    ("plan", "word"),
    [
        pytest.param(many(64 + 1), "sizes.listeners", id="listeners"),
        pytest.param(
            w.service(name="many", scheduler=Scheduler.MH, ring_slots=131071),
            "sizes.ring_slots",
            id="slots",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_shows_nothing(
    world: w.World, plane: RealPlane, plan: ServicePlan, word: str
) -> None:
    plane.apply(w.service(), 0)
    before = world.tables.listeners()

    with pytest.raises(CapacityError, match=word):
        plane.require_room({"many": spec_of(plan)})
    with pytest.raises(CapacityError, match=word):
        plane.apply(plan, 0)

    assert world.tables.listeners() == before


def test_what_fits_is_not_refused_beforehand(plane: RealPlane) -> None:
    plane.require_room({"many": spec_of(many(64))})
    plane.apply(many(64), 0)

    plane.require_room({"many": spec_of(many(64), vip="192.0.2.99")})


@pytest.mark.parametrize(
    "plans",
    [
        pytest.param({str(number): many(32) for number in range(3)}, id="listeners of several"),
        pytest.param(
            {str(number): w.service(scheduler=Scheduler.MH, ring_slots=16381) for number in range(8)},
            id="slots of several",
        ),
        pytest.param({str(number): w.service(listeners=()) for number in range(4097)}, id="services"),
    ],
)
def test_what_does_not_fit_together_is_refused_beforehand(
    plane: RealPlane, plans: dict[str, ServicePlan]
) -> None:
    specs = {
        name: spec_of(plan, vip=f"192.0.2.{100 + number % 100}")
        for number, (name, plan) in enumerate(plans.items())
    }

    with pytest.raises(CapacityError, match=r"raise sizes\."):
        plane.require_room(specs)


def test_all_places_can_be_taken(plane: RealPlane) -> None:
    plane.apply(many(64), 0)
    plane.apply(many(63), 0)

    assert plane.apply(many(64), 0) == 1


def test_what_the_kernel_refuses_is_an_error_of_ours(plane: RealPlane) -> None:
    far = w.backend("web1", hop=w.hop("web1", ifindex=999_999))

    with pytest.raises(DataplaneError, match="the kernel refused"):
        plane.apply(w.service(members=(far,)), 0)


# Connections for people


def opened_by(*clients: str) -> list[bytes]:
    frames = []
    for client in clients:
        version6 = ":" in client
        network = IPv6(src=client, dst=w.VIP6) if version6 else IP(src=client, dst=w.VIP)
        frames.append(bytes(w.ethernet() / network / TCP(sport=1024, dport=80, flags="S")))
    return frames


CLIENTS = ("192.0.2.100", "192.0.2.101", "198.51.100.7", "2001:db8::100", "2001:db8:7::7")
ODD = ("fe80::1", "127.0.0.1", "0.0.0.0", "224.0.0.1", "::ffff:192.0.2.1", "ff02::1")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param({}, CLIENTS, id="all"),
        pytest.param({"service": "web"}, CLIENTS, id="a service"),
        pytest.param({"service": "mail"}, (), id="a service without connections"),
        pytest.param({"service": "nope"}, (), id="no such service"),
        pytest.param({"backend": "web1"}, CLIENTS, id="a backend"),
        pytest.param({"backend": "web2"}, (), id="a backend without connections"),
        pytest.param({"service": "mail", "backend": "web1"}, (), id="a backend of another service"),
        pytest.param({"client": "192.0.2.100"}, CLIENTS[:1], id="an address"),
        pytest.param({"client": "192.0.2.0/24"}, CLIENTS[:2], id="a prefix"),
        pytest.param({"client": "0.0.0.0/0"}, CLIENTS[:3], id="all of IPv4"),
        pytest.param({"client": "2001:db8::/64"}, CLIENTS[3:4], id="a prefix of IPv6"),
        pytest.param({"client": "2001:db8::100"}, CLIENTS[3:4], id="an address of IPv6"),
        pytest.param({"client": "203.0.113.1"}, (), id="a stranger"),
    ],
)
def test_connections_can_be_asked_for(
    world: w.World, plane: RealPlane, query: dict[str, str], found: tuple[str, ...]
) -> None:
    plane.apply(w.service(), 0)
    plane.apply(MAIL, 0)
    for frame in opened_by(*CLIENTS):
        world.send(frame)

    asked = {"service": None, "backend": None, "client": None, **query}
    views = plane.connections(ConnectionQuery(**asked, limit=100))().items

    assert {str(view.client) for view in views} == set(found)
    assert {(view.service, view.backend, view.port, view.state) for view in views} <= {
        ("web", "web1", 80, "syn")
    }


def test_strange_clients_are_shown_too(world: w.World, plane: RealPlane) -> None:
    plane.apply(w.service(), 0)
    for frame in opened_by(*ODD):
        world.send(frame)

    views = plane.connections(ConnectionQuery(limit=100))().items

    assert {view.client for view in views} == {ip_address(text) for text in ODD}


def test_there_are_no_more_than_asked_for(world: w.World, plane: RealPlane) -> None:
    plane.apply(w.service(), 0)
    for frame in opened_by(*CLIENTS):
        world.send(frame)

    assert len(plane.connections(ConnectionQuery(limit=2))().items) == 2


def test_all_come_page_by_page(world: w.World, plane: RealPlane) -> None:
    plane.apply(w.service(), 0)
    for frame in opened_by(*CLIENTS):
        world.send(frame)

    asked = {"service": "web", "backend": "web1", "client": None}
    pages = all_pages(plane, **asked, limit=2)

    assert [len(page) for page in pages] == [2, 2, 1]
    assert {str(view.client) for page in pages for view in page} == set(CLIENTS)


def test_a_page_looks_at_a_bounded_part_of_the_table(
    world: w.World, plane: RealPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conntrack_list, "MOST_BUCKETS", 1)
    monkeypatch.setattr(conntrack, "_BUCKETS", 256)
    plane.apply(w.service(), 0)
    for frame in opened_by(*CLIENTS):
        world.send(frame)

    pages = all_pages(plane, limit=100)

    buckets = sum(map(world.tables.entries, conntrack.TABLES))
    assert len(pages) == -(-buckets // 256)
    assert sorted(str(view.client) for page in pages for view in page) == sorted(CLIENTS)


def test_a_page_reads_from_where_the_one_before_ended(
    world: w.World, plane: RealPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.apply(w.service(), 0)
    for frame in opened_by(*CLIENTS):
        world.send(frame)
    asked: dict[str, Any] = {"service": None, "backend": None, "client": None, "limit": 3}
    following = plane.connections(ConnectionQuery(**asked))().next
    assert following is not None
    monkeypatch.setattr(conntrack, "_BUCKETS", 1)
    begun: list[int] = []
    read = plane._records.from_bucket
    monkeypatch.setattr(plane._records, "from_bucket", lambda bucket: begun.append(bucket) or read(bucket))

    found = plane.connections(ConnectionQuery(**asked, place=following))()

    assert begun[0] == following // 4
    assert found.items


def test_a_place_behind_the_table_is_its_end(plane: RealPlane) -> None:
    found = plane.connections(ConnectionQuery(limit=3, place=1 << 50))()

    assert found == ((), None)


def all_pages(plane: RealPlane, **asked: Any) -> list[tuple[ConnectionView, ...]]:
    pages, following = [], 0
    while True:
        found = plane.connections(ConnectionQuery(**asked, place=following))()
        pages.append(found.items)
        if found.next is None:
            return pages
        following = found.next


def test_who_reads_when_the_maps_are_closed_is_told(world: w.World) -> None:
    with RealPlane(paths_of(world), world.tables.loaded) as plane:
        read = plane.connections(ConnectionQuery(limit=3))

    with pytest.raises(DataplaneError, match="stopping"):
        read()


def test_a_client_that_is_no_address_is_refused(plane: RealPlane) -> None:
    with pytest.raises(InvalidRequestError, match="'here'") as caught:
        plane.connections(ConnectionQuery(service=None, backend=None, client="here", limit=1))

    assert caught.value.pointer == "/client"


# Explaining


@pytest.mark.parametrize("name", ["eth\0", "nosuch9", "\udcff", "x" * 300])
def test_an_interface_that_cannot_be_is_refused(plane: RealPlane, name: str) -> None:
    vip, client = ip_address(w.VIP), ip_address(w.CLIENT)
    asked = Question.model_construct(
        client=client, client_port=1024, vip=vip, port=80, protocol="tcp", flags="S", interface=name
    )

    with pytest.raises(InvalidRequestError, match="there is no interface"):
        asyncio.run(plane.explain(asked))
