# SPDX-License-Identifier: Apache-2.0
"""Limits of new connections: who pays, what is refused and counted, and that nothing else is hurt.

Rates are of connections by hour, so that no bucket earns anything while a test runs: time passes by `World.earn`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest
from scapy.layers.inet import GRE, IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet

import tests.support.world as w
from xdpdirector.dataplane.service_plan import State
from xdpdirector.dataplane.writer import Dataplane
from xdpdirector.model import Listener, Persistence, Scheduler
from xdpdirector.model.guard import ServiceLimit
from xdpdirector.model.status import Refused

RING = Scheduler.MH
THREE = ServiceLimit(rate="60/h", burst=3)
THREE_EACH = ServiceLimit(per_source={"rate": "60/h", "burst": 3})
THREE_NET = ServiceLimit(per_source={"rate": "60/h", "burst": 3, "prefix": 8})
MINUTE = 60.0  # earns one connection


@pytest.fixture(autouse=True)
def _full_buckets(world: w.World) -> Iterator[None]:
    world.fill_buckets()
    yield
    world.empty()


def reasons(world: w.World, frames: list[Packet]) -> list[str]:
    return [world.send(frame).reason for frame in frames]


def connections(count: int, first: int = 2000, client: str = w.CLIENT) -> list[Packet]:
    return [w.tcp("S", sport=first + number, client=client) for number in range(count)]


def clients(count: int) -> list[Packet]:
    return [w.tcp("S", client=str(ip_address("10.0.0.1") + number)) for number in range(count)]


def datagrams(count: int) -> list[Packet]:
    return [w.udp(sport=2000 + number) for number in range(count)]


def gre(count: int) -> list[Packet]:
    return [
        w.ethernet() / IP(src=f"10.0.0.{n}", dst=w.VIP) / GRE() / IP() / TCP() for n in range(1, count + 1)
    ]


def sources6(*hosts: str) -> list[Packet]:
    return [
        w.ethernet() / IPv6(src=host, dst=w.VIP6) / TCP(sport=1024, dport=80, flags="S") for host in hosts
    ]


PERSISTENT = Persistence()
WITH_GRE = (*w.LISTENERS, Listener.parse(f"{w.VIP}:*/gre"))


@pytest.mark.parametrize(
    ("changes", "frames", "reason"),
    [
        pytest.param({}, connections(5), "forward_new", id="SYNs"),
        pytest.param({}, datagrams(5), "forward_new", id="datagrams"),
        pytest.param({"listeners": WITH_GRE}, gre(5), "forward_new", id="another protocol"),
        pytest.param({"one_packet": True}, [w.udp()] * 5, "forward_unrecorded", id="one-packet datagrams"),
        pytest.param({"persistence": PERSISTENT}, connections(5), "forward_new", id="SYNs, persistence"),
        pytest.param({"scheduler": RING}, connections(5), "forward_ring", id="SYNs, mh"),
        pytest.param({"scheduler": RING}, [w.tcp("S")] * 5, "forward_ring", id="the same SYN, mh"),
        pytest.param({"scheduler": RING, "one_packet": True}, [w.udp()] * 5, "forward_ring",
                     id="one-packet datagrams, mh"),
        pytest.param({"scheduler": RING, "persistence": PERSISTENT}, datagrams(5), "forward_new",
                     id="datagrams, mh, persistence"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("limit", [THREE, THREE_NET], ids=["service", "source"])
def test_what_opens_a_connection_pays(
    world: w.World, limit: ServiceLimit, changes: dict[str, object], frames: list[Packet], reason: str
) -> None:
    by = "service" if limit is THREE else "source"
    world.apply(w.service(limit=limit, **changes))

    assert reasons(world, frames) == [reason] * 3 + [f"drop_limited_{by}"] * 2
    world.earn(MINUTE)
    assert reasons(world, frames[3:]) == [reason, f"drop_limited_{by}"]
    assert world.plane.counters.refused(["web", "none"]) == {
        "web": Refused(**{f"by_{by}": 3}),
        "none": Refused(),
    }
    assert world.plane.counters.of_services().rows()["web"][3] == 3


@pytest.mark.parametrize(
    ("changes", "frames", "reason"),
    [
        pytest.param({}, [w.tcp("S")] * 5, "forward_connection", id="the same SYN"),
        pytest.param({}, [w.tcp("A")] * 5, "forward_connection", id="mid-stream"),
        pytest.param({}, [w.udp()] * 5, "forward_connection", id="the same datagram"),
        pytest.param({"scheduler": RING}, [w.tcp("A")] * 5, "forward_ring", id="mid-stream, mh"),
        pytest.param({"scheduler": RING}, datagrams(5), "forward_ring", id="datagrams, mh"),
        pytest.param({"scheduler": RING, "listeners": WITH_GRE}, gre(5), "forward_ring", id="GRE, mh"),
    ],
)
def test_what_opens_none_never_does(
    world: w.World, changes: dict[str, object], frames: list[Packet], reason: str
) -> None:
    world.apply(w.service(limit=THREE, **changes))
    reasons(
        world, [w.tcp("S"), *([w.udp()] if changes.get("scheduler") is not RING else []), *connections(3)]
    )

    assert reasons(world, frames) == [reason] * 5


@pytest.mark.parametrize(
    ("changes", "flags", "reason"),
    [
        pytest.param({"on_unknown": "schedule"}, "A", "forward_reopened", id="ACK"),
        pytest.param({"on_unknown": "schedule"}, "FA", "forward_reopened", id="FIN"),
        pytest.param({"on_unknown": "schedule"}, "SA", "forward_reopened", id="SYN and ACK"),
        pytest.param(
            {"on_unknown": "schedule", "persistence": PERSISTENT},
            "A",
            "forward_reopened",
            id="ACK, persistence",
        ),
    ],
)
@pytest.mark.parametrize("limit", [THREE, THREE_EACH], ids=["service", "source"])
def test_mid_stream_packets_of_unknown_connections_pay_when_they_are_scheduled(
    world: w.World, limit: ServiceLimit, changes: dict[str, object], flags: str, reason: str
) -> None:
    """Each gets a connection. A director that took over lets running ones in again as fast as new ones."""
    by = "service" if limit is THREE else "source"
    world.apply(w.service(limit=limit, **changes))

    frames = [w.tcp(flags, sport=3000 + number) for number in range(5)]

    assert reasons(world, frames) == [reason] * 3 + [f"drop_limited_{by}"] * 2


def test_in_flux_mid_stream_packets_pay_when_their_backend_is_down_and_they_are_scheduled(
    world: w.World,
) -> None:
    """Nobody knows whether such a flow ran before."""
    plan = w.service(scheduler=RING, limit=THREE, on_down="schedule")
    world.apply(plan)
    world.send(w.tcp("A"))
    down = (w.backend("web1", state=State.DOWN, accepts=False), w.backend("web2"))
    world.apply(replace(plan, members=down))

    frames = [w.tcp("A", sport=3000 + number) for number in range(5)]

    assert reasons(world, frames) == ["forward_reopened"] * 3 + ["drop_limited_service"] * 2


def test_connections_that_servers_open_to_a_client_pay(world: w.World) -> None:
    """Their SYN and ACK shows them (active FTP)."""
    world.apply(w.service(limit=THREE, persistence=PERSISTENT))
    world.send(w.tcp("S"))

    frames = [w.tcp("SA", sport=3000 + number) for number in range(5)]

    assert reasons(world, frames) == ["forward_new"] * 2 + ["drop_limited_service"] * 3


def test_a_syn_and_ack_from_somebody_unknown_pays_nothing(world: w.World) -> None:
    world.apply(w.service(limit=THREE, persistence=PERSISTENT))

    strangers = [w.tcp("SA", client=f"198.51.100.{number}") for number in range(1, 6)]

    assert reasons(world, strangers) == ["reject_unknown"] * 5
    assert reasons(world, connections(4)) == ["forward_new"] * 3 + ["drop_limited_service"]


def test_flows_that_lose_their_backend_do_not_pay_again(world: w.World) -> None:
    plan = w.service(limit=THREE, members=(w.backend("web1"), w.backend("web2")))
    world.apply(plan)
    frames = datagrams(3)
    reasons(world, frames)
    lost = (w.backend("web1", state=State.DOWN, accepts=False), w.backend("web2"))

    world.apply(replace(plan, members=lost))

    assert {w.owner(world.send(frame)) for frame in frames} == {"web2"}


def test_in_flux_a_syn_pays_and_a_running_flow_does_not(world: w.World) -> None:
    world.apply(w.service(scheduler=RING, limit=THREE))
    world.send(w.udp())  # where nobody has been, there is nothing in flux
    world.apply(w.service(scheduler=RING, limit=THREE, members=(w.backend("web2"),)))

    assert reasons(world, connections(4)) == ["forward_new"] * 3 + ["drop_limited_service"]
    world.apply(w.service(scheduler=RING, limit=THREE, members=(w.backend("web1"), w.backend("web2"))))
    assert reasons(world, datagrams(5)).count("drop_limited_service") == 0


def test_sources_have_buckets_of_their_own(world: w.World) -> None:
    world.apply(w.service(limit=THREE_EACH))

    assert reasons(world, connections(4))[3] == "drop_limited_source"
    assert reasons(world, connections(4, client="192.0.2.101")) == ["forward_new"] * 3 + [
        "drop_limited_source"
    ]
    assert reasons(world, [w.tcp6("S")]) == ["forward_new"]


def test_a_source_is_a_prefix(world: w.World) -> None:
    world.apply(w.service(limit=ServiceLimit(per_source={"rate": "1/h", "burst": 1, "prefix": 24})))

    assert reasons(world, clients(2)) == ["forward_new", "drop_limited_source"]
    assert reasons(world, connections(1, client="10.0.1.1")) == ["forward_new"]


def test_an_ipv6_source_is_a_site_network(world: w.World) -> None:
    world.apply(w.service(limit=ServiceLimit(per_source={"rate": "1/h", "burst": 1})))

    frames = sources6("2001:db8:1:1::1", "2001:db8:1:1:ffff::2", "2001:db8:1:2::1")

    assert reasons(world, frames) == ["forward_new", "drop_limited_source", "forward_new"]


def test_a_greedy_source_takes_nothing_from_the_others(world: w.World) -> None:
    both = ServiceLimit(rate="60/h", burst=5, per_source={"rate": "60/h", "burst": 3})
    world.apply(w.service(limit=both))

    assert reasons(world, connections(50)).count("drop_limited_source") == 47
    assert reasons(world, clients(3)) == ["forward_new", "forward_new", "drop_limited_service"]


def test_services_have_buckets_of_their_own(world: w.World) -> None:
    other = (Listener.parse(f"{w.VIP}:81/tcp"),)
    world.apply(w.service(limit=THREE_EACH), w.service(name="other", listeners=other, limit=THREE_EACH))
    reasons(world, connections(4))

    assert (
        reasons(world, [w.tcp("S", dport=81, sport=2000 + number) for number in range(3)])
        == ["forward_new"] * 3
    )


def test_a_bucket_saves_no_more_than_its_burst(world: w.World) -> None:
    world.apply(w.service(limit=THREE))
    reasons(world, connections(3))

    world.earn(100 * MINUTE)

    assert reasons(world, connections(5, first=3000)).count("forward_new") == 3


def test_a_jiffy_earns_what_it_earns_also_without_a_burst(world: w.World) -> None:
    """A rate above the kernel's ticks is reached although the burst is one."""
    fast = ServiceLimit(rate=f"{4 * world.clock.hz}/s", burst=1)
    world.apply(w.service(limit=fast))

    price, tolerance = world.plane.guarding._price(fast.rate, fast.in_burst)

    assert tolerance == 4 * price


def test_another_limit_begins_with_a_full_burst(world: w.World) -> None:
    plan = w.service(limit=ServiceLimit(rate="1/h", burst=1, per_source={"rate": "1/h", "burst": 1}))
    world.apply(plan)
    reasons(world, connections(2))

    world.apply(plan)
    assert reasons(world, connections(1, first=3000)) == ["drop_limited_source"]

    both = ServiceLimit(rate="1/h", burst=2, per_source={"rate": "1/h", "burst": 2})
    world.apply(replace(plan, limit=both))
    assert reasons(world, connections(3, first=4000)) == ["forward_new"] * 2 + ["drop_limited_source"]


@pytest.mark.parametrize("scheduler", [Scheduler.WLC, RING])
def test_a_limit_that_goes_lets_everybody_in(world: w.World, scheduler: Scheduler) -> None:
    plan = w.service(scheduler=scheduler, limit=THREE)
    world.apply(plan)
    reasons(world, connections(4))

    world.apply(replace(plan, limit=None))

    assert {reason[:8] for reason in reasons(world, connections(50, first=3000))} == {"forward_"}
    world.apply(plan)
    assert reasons(world, connections(4, first=4000)).count("drop_limited_service") == 1


def test_a_new_daemon_takes_over_the_buckets(world: w.World) -> None:
    plan = w.service(limit=THREE)
    world.apply(plan)
    reasons(world, connections(4))

    successor = Dataplane(world.tables, world.clock)

    assert successor.apply(plan, 0.0) == 0
    assert reasons(world, connections(1, first=3000)) == ["drop_limited_service"]


def test_drift_of_a_limit_is_repaired(world: w.World) -> None:
    plan = w.service(limit=THREE)
    world.apply(plan)
    for keys, values in [(k.copy(), v.copy()) for k, v in world.tables.read("limits")]:
        values["cost"] = 0
        world.tables.write("limits", keys, values)
    assert set(reasons(world, connections(10))) == {"forward_new"}

    world.plane.read_again()

    assert world.plane.apply(plan, 0.0) == 1
    assert reasons(world, connections(4, first=3000)).count("drop_limited_service") == 1


def test_an_index_that_is_used_again_inherits_nothing(world: w.World) -> None:
    limit = ServiceLimit(rate="1/h", burst=1, per_source={"rate": "1/h", "burst": 1})
    world.apply(w.service(limit=limit))
    reasons(world, connections(2))
    index = world.plane.indices.services["web"]
    world.plane.remove("web")

    world.apply(w.service(name="shop", limit=limit))

    assert world.plane.indices.services["shop"] == index
    assert world.plane.counters.refused(["shop"])["shop"] == Refused()
    assert reasons(world, connections(1, first=3000)) == ["forward_new"]


def test_a_flood_of_sources_leaves_the_services_limit_standing(world: w.World) -> None:
    """More sources than are remembered: those forgotten begin anew, the service as a whole does not."""
    limit = ServiceLimit(rate="1/h", burst=10, per_source={"rate": "1/h", "burst": 1})
    world.apply(w.service(limit=limit))

    outcomes = reasons(world, clients(2 * world.tables.entries("sources")))

    assert outcomes.count("forward_new") == 10
