# SPDX-License-Identifier: Apache-2.0
"""What is shown of what is known."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import stage as s
from stage import HOSTS, MACS, WEB1

from xdpdirector import reporting
from xdpdirector.model import AdminState
from xdpdirector.plane import FakePlane
from xdpdirector.planning import Standing
from xdpdirector.routes import Route
from xdpdirector.views import BackendView, ConnectionCounts, DrainView, Operational, Refused, Traffic

UP, DOWN, UNKNOWN, DRAINED = Operational.UP, Operational.DOWN, Operational.UNKNOWN, Operational.DRAINED
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
    **spec: object,
) -> BackendView:
    plane = plane or FakePlane()
    return reporting.backend_view(
        WEB1,
        s.backend("web1", **spec),
        Standing(verdict, "refused", route),
        plane.counts(WEB1),
        plane.traffic([WEB1])[WEB1],
        drain,
        SINCE,
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

    assert reporting.service_view("web", s.service(), views, Refused()).operational is operational


def test_a_service_shows_its_options_and_sums_its_backends() -> None:
    plane = FakePlane()
    plane.packets[WEB1] = 5
    spec = s.service("web1", scheduler="mh", check=s.CHECK, on_down="drop")

    view = reporting.service_view("web", spec, (shown(plane), shown(plane)), Refused(by_source=7))

    assert view.traffic == Traffic(packets=10)
    common = set(type(spec).model_fields) - {"backends"}
    assert {name: getattr(view, name) for name in common} == {name: getattr(spec, name) for name in common}


def test_traffic_adds_up_field_by_field() -> None:
    parts = [Traffic(packets=1, bytes=20, connections=300), Traffic(packets=4, bytes=50, connections=600)]

    assert reporting.total(iter(parts)) == Traffic(packets=5, bytes=70, connections=900)
    assert reporting.total([]) == Traffic()
