# SPDX-License-Identifier: Apache-2.0
"""What is shown of what is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import tests.support.stage as s
from tests.support.fake_plane import FakePlane
from tests.support.stage import HOSTS, MACS, WEB1
from xdpdirector.control import status_views
from xdpdirector.control.planner import BackendStatus, VipVerdict, status_of
from xdpdirector.model import Address, AdminState, ServiceSpec
from xdpdirector.model.status import (
    BackendView,
    ConnectionCounts,
    DrainView,
    Operational,
    Refused,
    Traffic,
    VipStanding,
    VipView,
    total,
)
from xdpdirector.net.next_hop import Route

UP, DOWN, UNKNOWN, DRAINED = Operational.UP, Operational.DOWN, Operational.UNKNOWN, Operational.DRAINED
PARTIAL = Operational.PARTIAL
SINCE = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
FOUND = Route("neighbour", MACS["web1"], bytes.fromhex("020000000001"), 2, "eth0")
LOST = Route("unresolved", ifindex=2, interface="eth0", why="it does not answer on eth0")
HERE = Route("local", ifindex=1, interface="lo", why="it is this machine")
DRAIN = DrainView(since=SINCE, reason="new disk", connections_at_start=9)


def shown(
    plane: FakePlane | None = None,
    *,
    verdict: Operational = UP,
    route: Route = FOUND,
    drain: DrainView | None = None,
    at: dict[Address, Operational] | None = None,
    **spec: object,
) -> BackendView:
    """`at`: the verdicts by VIP, where they differ."""
    plane = plane or FakePlane()
    known = [VipVerdict(vip, state, "" if state is UP else "refused") for vip, state in (at or {}).items()]
    return status_views.backend_view(
        WEB1,
        s.backend("web1", **spec),
        status_of(known, route) if known else BackendStatus(verdict, "refused", route),
        plane.counts(WEB1),
        plane.traffic([WEB1])[WEB1],
        drain,
        SINCE,
        service=s.service(listeners=[f"{vip}:80/tcp" for vip in at or [s.VIP]]),
        settled=plane.is_settled(WEB1[0]),
    )


def test_a_backend_is_shown_with_all_that_is_known() -> None:
    plane = FakePlane()
    plane.active[WEB1], plane.packets[WEB1] = 4, 7

    view = shown(plane, verdict=DOWN, weight=3)

    assert view == BackendView(
        service="web",
        name="web1",
        address=HOSTS["web1"],
        weight=3,
        effective_weight=3,
        admin=AdminState.ENABLED,
        operational=DOWN,
        reason="refused",
        since=SINCE,
        mac="02:00:00:00:00:15",
        interface="eth0",
        serving=False,
        vips=(VipStanding(vip=s.VIP, operational=DOWN, reason="refused"),),
        connections=ConnectionCounts(active=4),
        traffic=Traffic(packets=7),
        drain=None,
    )


@pytest.mark.parametrize(
    ("fields", "serving"),
    [
        pytest.param({}, True, id="enabled and up"),
        pytest.param({"weight": 0}, False, id="weight 0"),
        pytest.param({"admin": "drain"}, False, id="drain"),
        pytest.param({"admin": "maintenance"}, False, id="maintenance"),
        pytest.param({"verdict": UNKNOWN}, False, id="never checked"),
        pytest.param({"route": LOST}, False, id="not found"),
        pytest.param({"route": HERE}, True, id="the director itself"),
    ],
)
def test_serving_is_taking_new_connections(fields: dict[str, object], serving: bool) -> None:
    assert shown(**fields).serving is serving  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("route", "mac", "interface", "reason"),
    [
        pytest.param(LOST, None, "eth0", LOST.why, id="not found: why"),
        pytest.param(HERE, None, "lo", "refused", id="the director itself has no MAC"),
        pytest.param(s.FAR_AWAY, None, None, s.FAR_AWAY.why, id="on another network"),
    ],
)
def test_the_way_there(route: Route, mac: str | None, interface: str | None, reason: str) -> None:
    view = shown(verdict=DOWN, route=route)

    assert (view.mac, view.interface, view.reason) == (mac, interface, reason)


@pytest.mark.parametrize(
    ("admin", "active", "settled", "operational"),
    [
        pytest.param("drain", 0, True, DRAINED, id="draining, none left"),
        pytest.param("drain", 1, True, UP, id="draining, one left"),
        pytest.param("drain", 0, False, UP, id="draining, some may be unseen"),
        pytest.param("enabled", 0, True, UP, id="idle is not drained"),
        pytest.param("maintenance", 0, True, UP, id="maintenance is not drained"),
    ],
)
def test_drained(admin: str, active: int, settled: bool, operational: Operational) -> None:
    plane = FakePlane()
    plane.active[WEB1] = active
    plane.unsettled = set() if settled else {"web"}

    view = shown(plane, admin=admin, drain=DRAIN)

    assert view.operational is operational
    assert view.drain == DRAIN


@pytest.mark.parametrize(
    ("backends", "operational"),
    [
        pytest.param([], DOWN, id="no backend"),
        pytest.param([{"verdict": DOWN}, {}], UP, id="one takes new connections"),
        pytest.param([{"verdict": DOWN}, {"verdict": UNKNOWN}], UNKNOWN, id="one was never checked"),
        pytest.param([{"verdict": DOWN}, {"admin": "drain"}], DOWN, id="none takes new connections"),
    ],
)
def test_a_service_is_up_when_it_takes_new_connections(
    backends: list[dict[str, object]], operational: Operational
) -> None:
    views = tuple(shown(**fields) for fields in backends)  # type: ignore[arg-type]

    assert status_views.service_view("web", s.service(), views, Refused()).operational is operational


@pytest.mark.parametrize(
    ("first", "second", "operational", "serving"),
    [
        pytest.param((UP, UP), (UP, UP), UP, [2, 2], id="both have both"),
        pytest.param((UP, DOWN), (UP, UP), UP, [2, 1], id="each VIP has somebody"),
        pytest.param((UP, DOWN), (UP, DOWN), PARTIAL, [2, 0], id="nobody has one VIP"),
        pytest.param((UP, DOWN), (DOWN, UP), UP, [1, 1], id="each has one"),
        pytest.param((UP, UNKNOWN), (UP, UNKNOWN), PARTIAL, [2, 0], id="one is new"),
        pytest.param((DOWN, DOWN), (DOWN, DOWN), DOWN, [0, 0], id="nobody has any"),
        pytest.param((DOWN, UNKNOWN), (DOWN, UNKNOWN), UNKNOWN, [0, 0], id="one may be there"),
    ],
)
def test_a_service_is_partly_up_when_somebody_serves_some_of_its_vips(
    first: tuple[Operational, ...],
    second: tuple[Operational, ...],
    operational: Operational,
    serving: list[int],
) -> None:
    vips = (s.VIP, s.OTHER_VIP)
    spec = s.service(listeners=[f"{vip}:80/tcp" for vip in vips])
    views = tuple(shown(at=dict(zip(vips, states, strict=True))) for states in (first, second))

    view = status_views.service_view("web", spec, views, Refused())

    assert view.operational is operational
    assert [each.serving for each in view.vips] == serving


def test_a_backend_tells_each_vip_and_why() -> None:
    view = shown(at={s.VIP: UP, s.OTHER_VIP: DOWN})

    assert (view.operational, view.serving) == (PARTIAL, True)
    assert view.reason == f"{s.OTHER_VIP}: refused"
    assert view.vips == (
        VipStanding(vip=s.VIP, operational=UP, reason=""),
        VipStanding(vip=s.OTHER_VIP, operational=DOWN, reason="refused"),
    )


def test_a_backend_that_cannot_be_reached_is_down_for_each_vip() -> None:
    view = shown(at={s.VIP: UP, s.OTHER_VIP: DOWN}, route=LOST)

    assert {(each.operational, each.reason) for each in view.vips} == {(DOWN, LOST.why)}


def test_who_drains_serves_no_vip() -> None:
    views = (shown(at={s.VIP: UP}, admin="drain", drain=DRAIN),)

    view = status_views.service_view("web", s.service(), views, Refused())

    assert view.vips == (VipView(vip=s.VIP, operational=DOWN, serving=0),)


def test_a_service_shows_its_options_and_sums_its_backends() -> None:
    plane = FakePlane()
    plane.packets[WEB1] = 5
    spec = s.service("web1", scheduler="mh", check=s.CHECK, on_down="drop")

    view = status_views.service_view("web", spec, (shown(plane), shown(plane)), Refused(by_source=7))

    assert view.traffic == Traffic(packets=10)
    common = set(type(spec).model_fields) - {"backends"}
    assert {name: getattr(view, name) for name in common} == {name: getattr(spec, name) for name in common}


def test_traffic_adds_up_field_by_field() -> None:
    parts = [Traffic(packets=1, bytes=20, connections=300), Traffic(packets=4, bytes=50, connections=600)]

    assert total(iter(parts)) == Traffic(packets=5, bytes=70, connections=900)
    assert total([]) == Traffic()


def test_a_backend_shows_what_it_must_have_in_connection_ids() -> None:
    spec = s.service(
        "web1",
        listeners=[f"{s.VIP}:443/udp"],
        quic={"cids": "quic-lb", "length": 2},
        backends={"web2": s.backend("web2", quic_id="beef")},
    )

    shown_ids = {name: _view(spec, name).quic_id for name in spec.backends}

    assert shown_ids == {"web1": HOSTS["web1"].packed[-2:].hex(), "web2": "beef"}
    assert _view(s.service("web1"), "web1").quic_id is None


def _view(spec: ServiceSpec, name: str) -> BackendView:
    status = BackendStatus(UP, "", FOUND)
    counts, traffic = ConnectionCounts(), Traffic()
    return status_views.backend_view(
        ("web", name), spec.backends[name], status, counts, traffic, None, SINCE, service=spec, settled=True
    )
