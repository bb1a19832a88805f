# SPDX-License-Identifier: Apache-2.0
"""/metrics, read back by prometheus_client's own parser."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from api_server import ApiServer
from fake_director import CLIENT, FakeDirector
from prometheus_client.parser import text_string_to_metric_families

from xdpdirector import __version__
from xdpdirector.errors import DataplaneError
from xdpdirector.intent import Intent
from xdpdirector.model import BackendSpec, Listener, ServiceSpec

WEB1 = {"service": "web", "backend": "web1", "address": "192.0.2.21"}
SPEC = ServiceSpec(
    listeners=(Listener.parse("192.0.2.10:80/tcp"),),
    backends={"web1": BackendSpec(address=ip_address("192.0.2.21"), weight=3)},
)


@pytest.fixture(scope="module")
def director() -> FakeDirector:
    director = FakeDirector()
    asyncio.run(director.create_service("web", SPEC, intent=Intent("test")))
    director.busy["web", "web1"] = 5
    return director


@pytest.fixture(scope="module")
def api(director: FakeDirector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(director, tmp_path_factory.mktemp("metrics") / "api.sock") as server:
        yield server


def scrape(api: ApiServer) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = api.client.get("/metrics")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("xdpdirector_up", {}, 1),
        ("xdpdirector_ready", {}, 1),
        ("xdpdirector_build_info", {"version": __version__}, 1),
        ("xdpdirector_verdicts_total", {"reason": "forwarded"}, 1234567),
        ("xdpdirector_verdicts_total", {"reason": "malformed"}, 0),
        ("xdpdirector_connections_stored", {}, 5),
        ("xdpdirector_backend_connections_active", WEB1, 5),
        ("xdpdirector_backend_connections_inactive", WEB1, 0),
        ("xdpdirector_backend_weight", WEB1, 3),
        ("xdpdirector_backend_incoming_packets_total", WEB1, 1500),
        ("xdpdirector_backend_incoming_bytes_total", WEB1, 2_000_000),
        ("xdpdirector_backend_connections_total", WEB1, 20),
        ("xdpdirector_backend_operational", {**WEB1, "xdpdirector_backend_operational": "up"}, 1),
        ("xdpdirector_backend_operational", {**WEB1, "xdpdirector_backend_operational": "down"}, 0),
        ("xdpdirector_backend_admin", {**WEB1, "xdpdirector_backend_admin": "enabled"}, 1),
        ("xdpdirector_backend_admin", {**WEB1, "xdpdirector_backend_admin": "drain"}, 0),
    ],
)
def test_each_metric_is_there(api: ApiServer, name: str, labels: dict[str, str], value: float) -> None:
    assert scrape(api)[name, frozenset(labels.items())] == value


def test_no_client_is_named(api: ApiServer) -> None:
    assert CLIENT not in api.client.get("/metrics")


def test_an_unreadable_data_plane_is_down_and_no_error(api: ApiServer, director: FakeDirector) -> None:
    director.broken = DataplaneError("the map is gone")
    try:
        samples = scrape(api)
    finally:
        director.broken = None

    assert samples["xdpdirector_up", frozenset()] == 0
    assert ("xdpdirector_ready", frozenset()) not in samples
