# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask for, and what not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from xdpdirector.model import BackendSpec, Configuration, Listener, ServiceSpec, merged
from xdpdirector.model.checks import TcpCheck
from xdpdirector.model.durations import format_duration, parse_duration
from xdpdirector.model.lan import LanSpec
from xdpdirector.model.listener import unicast_address

VIP, VIP6 = "192.0.2.10", "2001:db8::10"
HTTP = f"{VIP}:80/tcp"
DEFAULTS = {
    "max_connections": None,
    "resume_connections": None,
    "router": False,
    "forward": None,
    "quic_id": None,
    "labels": {},
}
WEB1 = {"address": "192.0.2.21"}


def service(**options: Any) -> ServiceSpec:
    return ServiceSpec.model_validate({"listeners": [HTTP], **options})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("300ms", 0.3),
        ("2s", 2.0),
        ("1.5m", 90.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("7", 7.0),
        ("1.4996s", 1.499),
        ("0.29", 0.29),
        ("9" * 400, float("inf")),
        (2, 2.0),
        (0.5, 0.5),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "s", "2 s", " 2s", "2s\n", "٣s", "-1s", "1w", "1s2s", "soon", None, True, [], "1e3", float("inf")],
)
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="300ms, 2s or 5m"):
        parse_duration(text)


@given(st.integers(1, 31 * 86400 * 1000))
def test_a_duration_survives_being_written(milliseconds: int) -> None:
    seconds = milliseconds / 1000

    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize("interval", ["0s", "0.5ms", "32d"])
def test_durations_have_bounds(interval: str) -> None:
    with pytest.raises(ValidationError, match="must be at"):
        TcpCheck.model_validate({"type": "tcp", "interval": interval, "timeout": interval})


@pytest.mark.parametrize(
    "text",
    [
        HTTP,
        f"[{VIP6}]:53/udp",
        f"{VIP}:1/udp",
        f"{VIP}:65535/tcp",
        f"{VIP}:3868/sctp",
        f"{VIP}:2905-2910/sctp",
    ],
)
def test_listeners(text: str) -> None:
    assert str(Listener.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(VIP, "is not a listener", id="no port"),
        pytest.param(f"{VIP}:80", "is not a listener", id="no protocol"),
        pytest.param(f"{VIP}/tcp", "is not a listener", id="no port but a protocol"),
        pytest.param(f"{VIP6}:80/tcp", "square brackets", id="IPv6 without brackets"),
        pytest.param(f"[{VIP}]:80/tcp", "square brackets", id="IPv4 in brackets"),
        pytest.param(f"{VIP}:0/tcp", "out of range", id="port 0"),
        pytest.param(f"{VIP}:65536/tcp", "out of range", id="port too high"),
        pytest.param(f"{VIP}:http/tcp", "out of range", id="port by name"),
        pytest.param(f"{VIP}:٨٠/tcp", "out of range", id="other digits"),
        pytest.param(f"{VIP}:80/icmp", "is not a protocol", id="protocol"),
        pytest.param(f"{VIP}:80/gre", "has no ports", id="a port where there are none"),
        pytest.param(f"{VIP}:90-80/tcp", "runs backwards", id="range backwards"),
        pytest.param(f"{VIP}:80-/tcp", "out of range", id="range without end"),
        pytest.param(f"{VIP}:0-80/tcp", "out of range", id="range from 0"),
        pytest.param("192.0.2.256:80/tcp", "not an IPv4 or IPv6 address", id="address"),
        pytest.param("192.0.2.010:80/tcp", "not an IPv4 or IPv6 address", id="leading zero"),
        pytest.param(":80/tcp", "not an IPv4 or IPv6 address", id="no address"),
        pytest.param("[fe80::1%eth0]:80/tcp", "link-local", id="scope"),
        pytest.param(f"{HTTP}\n", "is not", id="newline"),
    ],
)
def test_what_is_no_listener(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Listener.parse(text)


def test_listeners_are_values() -> None:
    long, short = Listener.parse("[2001:db8:0::0010]:80/tcp"), Listener.parse(f"[{VIP6}]:80/tcp")

    assert long == short
    assert len({long, short}) == 1
    assert sorted([short, Listener.parse(HTTP)])[0] == Listener.parse(HTTP)
    assert short != Listener.parse(f"[{VIP6}]:80/udp")


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "fe80::1",
        "::ffff:192.0.2.1",
        "",
    ],
)
def test_addresses_that_no_host_on_the_network_has(text: str) -> None:
    with pytest.raises(ValueError, match=r"address"):
        unicast_address(text)


def test_defaults() -> None:
    spec = service(check={"type": "http"}, backends={"web1": WEB1})

    assert spec.model_dump(mode="json") == {
        "listeners": [HTTP],
        "scheduler": "wlc",
        "ring_slots": 16381,
        "hash": None,
        "fallback": None,
        "on_empty": "reject",
        "on_down": "reject",
        "on_unknown": "reject",
        "timeouts": {"tcp": "900s", "tcpfin": "120s", "udp": "300s", "syn": "60s"},
        "persistence": None,
        "one_packet": False,
        "quic": None,
        "check": {
            "interval": "2s",
            "timeout": "1s",
            "rise": 2,
            "fall": 3,
            "port": None,
            "via": "vip",
            "type": "http",
            "path": "/",
            "host": None,
            "status": [200],
            "body": None,
            "weight_header": None,
        },
        "passive": None,
        "slow_start": None,
        "limit": None,
        "forward": "direct",
        "tunnel": {"port": 6080, "source": None, "source6": None},
        "labels": {},
        "backends": {"web1": {"address": "192.0.2.21", "weight": 1, **DEFAULTS, "admin": "enabled"}},
    }


def test_a_service_survives_being_written() -> None:
    spec = service(
        listeners=[HTTP, f"[{VIP6}]:443/tcp"],
        scheduler="mh",
        check={"type": "tcp", "interval": "300ms", "timeout": "0.25"},
        backends={"web1": WEB1, "web2": {"address": "2001:db8::22", "weight": 0, "admin": "drain"}},
    )

    assert ServiceSpec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param({"listeners": []}, "at least 1", id="no listener"),
        pytest.param(
            {"listeners": [f"{VIP}:53/udp"], "passive": {}}, "passive is for TCP", id="passive, UDP"
        ),
        pytest.param({"passive": {"at_most": 0}}, "greater than 0", id="nobody may be ejected"),
        pytest.param({"passive": {"share": True}}, "valid number", id="a share that is no number"),
        pytest.param({"listeners": [HTTP, HTTP]}, "stands twice", id="listener twice"),
        pytest.param({"scheduler": "fastest"}, "'wlc'", id="scheduler"),
        pytest.param({"fallback": "web9"}, "none of the service's backends", id="fallback"),
        pytest.param({"hash": "flow"}, "for mh and sh", id="hash without a ring"),
        pytest.param(
            {"one_packet": True, "persistence": {}}, "use one of them", id="one packet and persistence"
        ),
        pytest.param(
            {"scheduler": "mh", "backends": {"web1": {"address": "192.0.2.21", "max_connections": 9}}},
            "counts no connections",
            id="thresholds on a ring",
        ),
        pytest.param(
            {"backends": {"web1": {"address": "192.0.2.21", "resume_connections": 9}}},
            "needs it",
            id="lower threshold alone",
        ),
        pytest.param({"ring_slots": 1000}, "not prime", id="composite ring"),
        pytest.param({"ring_slots": 131073}, "less than or equal", id="huge ring"),
        pytest.param({"backends": {"web1": WEB1, "web2": WEB1}}, "both have the address", id="address twice"),
        pytest.param({"backends": {"web1": {"address": VIP}}}, "own VIP", id="backend with the VIP"),
        pytest.param({"backends": {"-web": WEB1}}, "match pattern", id="backend's name"),
        pytest.param({"backends": {"web1": {**WEB1, "port": 80}}}, "not permitted", id="unknown key"),
        pytest.param({"backends": {"web1": {**WEB1, "weight": 65536}}}, "65535", id="weight"),
        pytest.param({"check": {"type": "http", "path": "no slash"}}, "match pattern", id="path"),
        pytest.param({"check": {"type": "http", "path": "/a b"}}, "match pattern", id="space in path"),
        pytest.param({"check": {"type": "http", "host": "a\r\nb"}}, "match pattern", id="header in host"),
        pytest.param({"check": {"type": "tcp", "interval": 1, "timeout": 2}}, "is longer", id="timeout"),
    ],
)
def test_services_that_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        service(**options)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        pytest.param({"interfaces": []}, "at least 1", id="no interface"),
        pytest.param({"interfaces": ["eth0", "eth0"]}, "stands twice", id="interface twice"),
        pytest.param({"interfaces": ["an-interface-of-16"]}, "match pattern", id="interface's name"),
        pytest.param({"interfaces": ["eth0:1"]}, "match pattern", id="an alias is no interface"),
        pytest.param({"interfaces": ["eth\x850"]}, "match pattern", id="white space of some readers only"),
        pytest.param(
            {"interfaces": ["eth0"], "services": {"a": {"listeners": [HTTP]}, "b": {"listeners": [HTTP]}}},
            "belongs to service 'a' and to service 'b'",
            id="listener in two services",
        ),
    ],
)
def test_configurations_that_are_refused(document: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Configuration.model_validate(document)


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        pytest.param({}, {"address": "192.0.2.21", "weight": 3, "admin": "enabled"}, id="nothing"),
        pytest.param({"weight": 5}, {"address": "192.0.2.21", "weight": 5, "admin": "enabled"}, id="change"),
        pytest.param({"weight": None}, {"address": "192.0.2.21", "admin": "enabled"}, id="remove"),
        pytest.param(
            {"new": {"a": None, "b": 1}},
            {"address": "192.0.2.21", "weight": 3, "admin": "enabled", "new": {"b": 1}},
            id="null inside something new",
        ),
    ],
)
def test_merge_patch(patch: dict[str, Any], expected: dict[str, Any]) -> None:
    """RFC 7396."""
    spec = BackendSpec.model_validate({**WEB1, "weight": 3})

    assert merged(spec, patch) == DEFAULTS | expected


def test_merge_patch_reaches_inside() -> None:
    spec = service(backends={"web1": WEB1, "web2": {"address": "192.0.2.22"}})

    document = merged(spec, {"backends": {"web1": {"weight": 7}, "web2": None}})

    assert ServiceSpec.model_validate(document) == service(backends={"web1": {**WEB1, "weight": 7}})


def test_a_value_cannot_be_changed() -> None:
    spec = service()

    with pytest.raises(ValidationError, match="frozen"):
        spec.ring_slots = 251


@pytest.mark.parametrize("weight", [False, True, "5", 1.5, None, []])
def test_a_number_is_a_number(weight: object) -> None:
    """A `false` that is taken for 0 would leave a backend without clients."""
    with pytest.raises(ValidationError):
        BackendSpec.model_validate({"address": "192.0.2.21", "weight": weight})


def test_two_point_nought_is_two() -> None:
    """For JSON Schema (2020-12, 6.1.1), too."""
    assert BackendSpec.model_validate({"address": "192.0.2.21", "weight": 2.0}).weight == 2


@pytest.mark.parametrize("probe", ["yes", "off", 1, 0, None])
def test_a_flag_is_true_or_false(probe: object) -> None:
    with pytest.raises(ValidationError):
        LanSpec.model_validate({"probe": probe})
