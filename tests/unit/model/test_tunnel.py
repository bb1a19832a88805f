# SPDX-License-Identifier: Apache-2.0
"""How packets reach backends: what a service and its backends may say, and what follows."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from pydantic import ValidationError

from xdpdirector.model import ServiceSpec
from xdpdirector.model.tunnel import Encapsulation, overhead, segment_size
from xdpdirector.net.next_hop import Route
from xdpdirector.net.tunnel import Tunnel, tunnel_over

FAR, FAR6 = ip_address("203.0.113.21"), ip_address("2001:db8:f::21")
OWN, OWN6 = ip_address("192.0.2.2"), ip_address("2001:db8::2")


def service(backend: dict[str, Any] | None = None, **options: Any) -> ServiceSpec:
    far = {"address": str(FAR), **(backend or {})}
    return ServiceSpec.model_validate(
        {"listeners": ["192.0.2.10:80/tcp"], "backends": {"far": far}, **options}
    )


def encapsulation(spec: ServiceSpec) -> Encapsulation | None:
    return spec.encapsulation(spec.backends["far"])


def test_direct_routing_is_the_default() -> None:
    assert encapsulation(service()) is None


@pytest.mark.parametrize(
    ("of_service", "of_backend", "kind"),
    [("ipip", None, "ipip"), ("direct", "gue", "gue"), ("gue", "ipip", "ipip"), ("gue", "direct", None)],
)
def test_a_backend_goes_before_its_service(of_service: str, of_backend: str | None, kind: str | None) -> None:
    found = encapsulation(service({"forward": of_backend} if of_backend else {}, forward=of_service))

    assert (found.kind if found else None) == kind


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"forward": "gre"}, "direct"),
        ({"tunnel": {"port": 0}}, "greater than or equal to 1"),
        ({"tunnel": {"source": "2001:db8::/64"}}, "write it as source6"),
        ({"tunnel": {"source6": "10.64.0.0/16"}}, "write it as source"),
        ({"tunnel": {"source": "10.64.0.1/16"}}, "bits behind its prefix"),
    ],
)
def test_tunnels_that_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        service(**options)


def test_the_outer_source_is_that_of_the_route_or_under_a_prefix() -> None:
    route, route6 = (Route("neighbour", source=source, mtu=1400) for source in (OWN, OWN6))
    spread = Encapsulation("gue", 9886, ip_network("10.64.0.0/16"), ip_network("100::/64"))

    assert tunnel_over(route, Encapsulation("ipip"), FAR) == Tunnel("ipip", OWN, FAR, 1400)
    assert tunnel_over(route, spread, FAR) == Tunnel("gue", ip_address("10.64.0.0"), FAR, 1400, 9886, 16)
    assert tunnel_over(route6, spread, FAR6) == Tunnel("gue", ip_address("100::"), FAR6, 1400, 9886, 32)


def test_without_a_route_and_to_this_machine_there_is_no_tunnel() -> None:
    assert tunnel_over(Route("off-link"), Encapsulation("ipip"), FAR) is None
    assert tunnel_over(Route("local", source=OWN), Encapsulation("ipip"), OWN) is None


@pytest.mark.parametrize(
    ("forward", "version", "adds", "mss", "mss6"),
    [
        ("direct", 4, 0, 1460, 1440),
        ("ipip", 4, 20, 1440, 1420),
        ("ipip", 6, 40, 1420, 1400),
        ("gue", 4, 28, 1432, 1412),
        ("gue", 6, 48, 1412, 1392),
    ],
)
def test_what_a_tunnel_adds_and_what_is_left_for_tcp(
    forward: Any, version: int, adds: int, mss: int, mss6: int
) -> None:
    """docs/tunnels.md has this table."""
    assert overhead(forward, version) == adds
    assert (segment_size(1500, forward, version, 4), segment_size(1500, forward, version, 6)) == (mss, mss6)
