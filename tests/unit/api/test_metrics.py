# SPDX-License-Identifier: Apache-2.0
"""/metrics, read back by prometheus_client's own parser."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.support.api_server import ApiServer
from tests.support.fake_director import CLIENT, FakeDirector
from xdpdirector import __version__
from xdpdirector.api.metrics.exposition import OPENMETRICS, TEXT, takes_openmetrics
from xdpdirector.errors import DataplaneError, NotFoundError
from xdpdirector.health.checks import Target
from xdpdirector.health.checks.metrics import Tally
from xdpdirector.lan.types import Finding, FindingKind
from xdpdirector.model import BackendSpec, Listener, ServiceSpec
from xdpdirector.model.passive import HandshakeTimes, PassiveCounts
from xdpdirector.model.status import CidPackets
from xdpdirector.state.change_request import Intent

VIPS = ("192.0.2.10", "2001:db8::10")
WEB1 = {"service": "web", "backend": "web1", "address": "192.0.2.21"}
SPEC = ServiceSpec(
    listeners=(Listener.parse("192.0.2.10:80/tcp"),),
    backends={"web1": BackendSpec(address=ip_address("192.0.2.21"), weight=3)},
)


@pytest.fixture
def director() -> FakeDirector:
    director = FakeDirector()
    asyncio.run(director.create_service("web", SPEC, intent=Intent("test")))
    director.busy["web", "web1"] = 5
    director.plane.service_drops["web"] = {"drop_denied": 3}
    return director


@pytest.fixture
def api(director: FakeDirector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with ApiServer(director, tmp_path_factory.mktemp("metrics") / "api.sock") as server:
        yield server


@pytest.fixture
def lacking(tmp_path: Path) -> Iterator[ApiServer]:
    """`both` has two VIPs, of which web1 lacks one."""
    director = FakeDirector()
    listeners = (Listener.parse(f"{VIPS[0]}:81/tcp"), Listener.parse(f"[{VIPS[1]}]:81/tcp"))
    spec = SPEC.model_copy(update={"listeners": listeners})
    asyncio.run(director.create_service("both", spec, intent=Intent("test")))
    director.lacking["both", "web1", ip_address(VIPS[1])] = "no answer"
    with ApiServer(director, tmp_path / "api.sock") as server:
        yield server


def test_packets_by_quic_connection_ids_are_those_of_services_with_them(tmp_path: Path) -> None:
    director = FakeDirector()
    asyncio.run(director.create_service("web", SPEC, intent=Intent("test")))
    spec = ServiceSpec.model_validate(
        {"listeners": ["192.0.2.10:443/udp"], "quic": {"cids": "quic-lb"}, "backends": SPEC.backends}
    )
    asyncio.run(director.create_service("h3", spec, intent=Intent("test")))
    director.plane.cid_packets["h3"] = CidPackets(named=3, unknown=2, down=1)

    with ApiServer(director, tmp_path / "api.sock") as server:
        found = {labels: n for (name, labels), n in scrape(server).items() if "quic" in name}

    assert found == {
        frozenset({("service", "h3"), ("cid", cid)}): number
        for cid, number in {"named": 3, "unknown": 2, "down": 1}.items()
    }


def watching(tmp_path: Path, scheduler: str, counts: PassiveCounts) -> dict[str, dict[str, float]]:
    """The samples of a backend that is watched: by name, and by the label that is not the backend's."""
    director = FakeDirector()
    spec = ServiceSpec.model_validate(
        {"listeners": ["192.0.2.10:80/tcp"], "scheduler": scheduler, "passive": {}, "backends": SPEC.backends}
    )
    asyncio.run(director.create_service("web", spec, intent=Intent("test")))
    asyncio.run(
        director.create_service(
            "other",
            SPEC.model_copy(update={"listeners": (Listener.parse("192.0.2.10:81/tcp"),)}),
            intent=Intent("test"),
        )
    )
    director.plane.watched_packets["web", "web1"] = counts
    found: dict[str, dict[str, float]] = {}
    with ApiServer(director, tmp_path / "api.sock") as server:
        for (name, labels), number in scrape(server).items():
            if re.search("syn|handshake|reset|unanswered|idle|passive", name):
                others = dict(labels) | {"address": "", "backend": "", "service": ""}
                assert dict(labels) | WEB1 == dict(labels)
                found.setdefault(name, {})["".join(others.values())] = number
    return found


def test_what_clients_show_is_counted_and_timed(tmp_path: Path) -> None:
    times = (HandshakeTimes(at_most=0.001, count=5), HandshakeTimes(at_most=None, count=2))
    counts = PassiveCounts(
        syns=9,
        retransmissions=4,
        retransmitted=2,
        handshakes=7,
        resets=1,
        unanswered=2,
        idle=3,
        seconds=1.5,
        times=times,
    )

    found = watching(tmp_path, "wlc", counts)

    begin = "xdpdirector_backend_"
    assert found.pop(f"{begin}handshake_duration_seconds_bucket") == {"0.001": 5, "+Inf": 7}
    assert found.pop(f"{begin}passive") == {"normal": 1, "suspect": 0, "ejected": 0, "trial": 0}
    assert {name.removeprefix(begin): samples[""] for name, samples in found.items()} == {
        "handshake_duration_seconds_count": 7,
        "handshake_duration_seconds_sum": 1.5,
        "syns_total": 9,
        "syn_retransmissions_total": 4,
        "syns_retransmitted_total": 2,
        "handshakes_total": 7,
        "client_resets_total": 1,
        "unanswered_connections_total": 2,
        "idle_connections_total": 3,
    }


def test_a_ring_has_metrics_of_syns_alone(tmp_path: Path) -> None:
    found = watching(tmp_path, "mh", PassiveCounts(syns=9, retransmissions=4, retransmitted=2))

    assert {name.removeprefix("xdpdirector_backend_") for name in found} == {
        "syns_total",
        "syn_retransmissions_total",
        "syns_retransmitted_total",
        "passive",
    }


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
        ("xdpdirector_verdicts_total", {"verdict": "forward", "reason": "forward_new"}, 1234567),
        ("xdpdirector_verdicts_total", {"verdict": "drop", "reason": "drop_denied"}, 0),
        ("xdpdirector_connections_stored", {}, 5),
        ("xdpdirector_clients_turned_away_total", {}, 7),
        ("xdpdirector_problems", {}, 0),
        ("xdpdirector_warnings", {}, 0),
        ("xdpdirector_revision", {}, 1),
        ("xdpdirector_connections_total", {}, 20),
        ("xdpdirector_incoming_packets_total", {}, 1500),
        ("xdpdirector_incoming_bytes_total", {}, 2_000_000),
        ("xdpdirector_map_entries", {"map": "backends"}, 1),
        ("xdpdirector_map_capacity", {"map": "backends"}, 4096),
        ("xdpdirector_program_info", {"interface": "eth0", "mode": "native", "program_id": "42"}, 1),
        ("xdpdirector_service_operational", {"service": "web", "xdpdirector_service_operational": "up"}, 1),
        ("xdpdirector_service_backends", {"service": "web"}, 1),
        ("xdpdirector_service_backends_serving", {"service": "web"}, 1),
        ("xdpdirector_service_refused_total", {"service": "web", "limit": "source"}, 0),
        ("xdpdirector_service_dropped_packets_total", {"service": "web", "reason": "drop_denied"}, 3),
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


CHECKED = {"type": "http", "target": "192.0.2.10:80", "backend": "192.0.2.21"}
CHECKED6 = {"type": "icmp", "target": "2001:db8::10", "backend": "192.0.2.21"}


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("xdpdirector_check_duration_seconds_sum", CHECKED, 1.5),
        ("xdpdirector_check_duration_seconds_count", CHECKED, 10),
        ("xdpdirector_check_failures_total", CHECKED, 3),
        ("xdpdirector_check_failures_total", CHECKED6, 0),
        ("xdpdirector_check_impossible_total", CHECKED, 4),
        ("xdpdirector_lan_findings", {"kind": "duplicate-vip"}, 1),
        ("xdpdirector_lan_findings", {"kind": "shared-mac"}, 0),
        ("xdpdirector_lan_mac_changes_total", {"address": "192.0.2.21"}, 2),
        ("xdpdirector_backend_drain_connections", WEB1, 5),
    ],
)
def test_what_is_seen_of_checks_drains_and_the_network(
    api: ApiServer, director: FakeDirector, name: str, labels: dict[str, str], value: float
) -> None:
    vip, web1 = ip_address("192.0.2.10"), ip_address("192.0.2.21")
    director.checked = [
        Tally("http", Target(vip, 80, web1), tries=10, failures=3, impossible=4, seconds=1.5),
        Tally("icmp", Target(ip_address("2001:db8::10"), 0, web1), tries=10, seconds=0.1),
    ]
    finding = dict.fromkeys(("subject", "text", "evidence", "remedy"), "-")
    director.lan.findings = (
        Finding(kind=FindingKind.DUPLICATE_VIP, since=datetime(2025, 1, 1, tzinfo=UTC), **finding),
    )
    director.lan.mac_changes = {web1: 2}
    api.client.post("/v1/services/web/backends/web1/drain")

    samples = scrape(api)
    api.client.post("/v1/services/web/backends/web1/enable")

    assert samples[name, frozenset(labels.items())] == value


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


def test_the_page_on_monitoring_names_every_metric_and_no_other(api: ApiServer) -> None:
    page = (Path(__file__).parents[3] / "docs" / "monitoring.md").read_text()

    families = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in text_string_to_metric_families(api.client.get("/metrics"))
        if family.name.startswith("xdpdirector_")
    }

    assert set(re.findall(r"`(xdpdirector_\w+)`", page)) == families


def test_a_vip_that_a_backend_lacks_is_seen(lacking: ApiServer) -> None:
    found = scrape(lacking)

    both = {**WEB1, "service": "both"}
    at = {vip: found["xdpdirector_backend_vip_up", frozenset({**both, "vip": vip}.items())] for vip in VIPS}
    assert at == {"192.0.2.10": 1, "2001:db8::10": 0}
    partial = {**both, "xdpdirector_backend_operational": "partial"}
    assert found["xdpdirector_backend_operational", frozenset(partial.items())] == 1


def test_a_service_with_one_vip_needs_no_metric_by_vip(api: ApiServer) -> None:
    assert not any(name == "xdpdirector_backend_vip_up" for name, _ in scrape(api))


def test_what_the_api_itself_did(api: ApiServer) -> None:
    api.client.get("/v1/services")
    with pytest.raises(NotFoundError):
        api.client.get("/v1/services/none")

    seen = scrape(api)

    def count(metric: str, **labels: str) -> float:
        return seen[f"xdpdirector_api_{metric}", frozenset(labels.items())]

    assert count("requests_total", operation="list_services", status="200") >= 1
    assert count("requests_total", operation="get_service", status="404") >= 1
    assert count("request_duration_seconds_count", operation="list_services") >= 1
    assert count("request_duration_seconds_sum", operation="list_services") > 0
    assert count("requests_under_way") == 1  # this one
    assert count("authentication_failures_total") == 0


def test_the_process_is_told_by_the_names_of_all_client_libraries(api: ApiServer) -> None:
    seen = {name: value for (name, _), value in scrape(api).items() if name.startswith("process_")}

    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    resident = 1024 * int(status["VmRSS"].split()[0])
    assert seen.keys() == {
        *(f"process_{name}_bytes" for name in ("virtual_memory", "resident_memory")),
        *(f"process_{name}" for name in ("start_time_seconds", "cpu_seconds_total", "open_fds", "max_fds")),
    }
    assert seen["process_virtual_memory_bytes"] > seen["process_resident_memory_bytes"]
    assert resident / 2 < seen["process_resident_memory_bytes"] < 2 * resident
    assert 0 < datetime.now(UTC).timestamp() - seen["process_start_time_seconds"] < 86400
    assert 0 < seen["process_cpu_seconds_total"] < 86400
    assert 3 < seen["process_open_fds"] <= seen["process_max_fds"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5", OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1;q=0.5,text/plain;q=0.3", TEXT),
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("text/plain;version=1.0.0,application/openmetrics-text;version=1.0.0", TEXT),
        ("text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;escaping=x", OPENMETRICS),
        ("text/plain;version;=;;,,", TEXT),
    ],
)
def test_the_format_is_the_one_that_the_scraper_takes(accept: str, expected: str) -> None:
    assert (OPENMETRICS if takes_openmetrics(accept) else TEXT) == expected


def test_openmetrics_is_read_by_the_strict_parser(api: ApiServer) -> None:
    text, _ = api.client.text("/metrics", "application/openmetrics-text; version=1.0.0")

    families = {family.name: family for family in read_openmetrics(text)}  # type: ignore[no-untyped-call]
    assert text.endswith("\n# EOF\n")
    assert families["process_cpu_seconds"].type == "counter"
    assert families["xdpdirector_up"].samples[0].value == 1
