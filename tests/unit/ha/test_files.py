# SPDX-License-Identifier: Apache-2.0
"""Configuration for keepalived, BIRD and FRR. What keepalived says of it needs an interface:
namespaces/test_pair.py.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from xdpdirector.errors import InvalidRequestError
from xdpdirector.ha import bird, frr, keepalived
from xdpdirector.ha.bgp import Bgp

VIPS = tuple(map(ip_address, ("192.0.2.10", "2001:db8::10")))
VRRP = keepalived.Vrrp(
    vips=VIPS,
    interface="eth0",
    ready="/bin/true",
    own=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
    peers=(ip_address("192.0.2.2"), ip_address("2001:db8::2")),
    priority=150,
    advert=0.1,
)
BGP = Bgp(
    vips=VIPS,
    interface="vips",
    router_id=ip_address("192.0.2.1"),
    asn=65001,
    routers=(ip_address("192.0.2.254"), ip_address("2001:db8::fe")),
    router_asn=65000,
)


def test_both_families_move_together() -> None:
    text = keepalived.render(VRRP)
    assert text.count("vrrp_instance ") == 1
    assert text.index("virtual_ipaddress {\n        192.0.2.10/32 dev eth0") < text.index(
        "virtual_ipaddress_excluded {\n        2001:db8::10/128 dev eth0"
    )
    assert "unicast_src_ip 192.0.2.1\n    unicast_peer {\n        192.0.2.2\n    }" in text


@pytest.mark.parametrize(
    ("patience", "interval", "timeout", "fall"),
    [(3, 1, 3, 3), (30, 1, 3, 30), (100, 3, 10, 34), (180, 6, 18, 30)],
)
def test_a_director_with_patience_is_asked_less_often(
    patience: int, interval: int, timeout: int, fall: int
) -> None:
    text = keepalived.render(replace(VRRP, patience=patience))

    assert f"    interval {interval}\n    timeout {timeout}\n    rise 2\n    fall {fall}\n" in text
    assert interval * fall >= patience


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"vips": ()}, "no VIP"), ({"router_id": 0}, "router id of 0"), ({"priority": 255}, "priority of 255")],
)
def test_what_vrrp_does_not_have_is_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidRequestError, match=why):
        keepalived.render(replace(VRRP, **changes))  # type: ignore[arg-type]


SCRIPT = 'x"\n}\nvrrp_script s { script "/bin/sh /tmp/x"\n}'


@pytest.mark.parametrize("interface", [SCRIPT, "eth0{}", "a b", 'a"', "a\0", "", "a\n"])
def test_a_director_that_is_not_honest_writes_no_script(interface: str) -> None:
    """Root's keepalived reads it; the director is not root."""
    with pytest.raises(InvalidRequestError, match="no plain name of an interface"):
        keepalived.render(replace(VRRP, interface=interface))
    with pytest.raises(InvalidRequestError, match="no plain name of an interface"):
        bird.render(replace(BGP, interface=interface))
    with pytest.raises(InvalidRequestError, match="no plain name of an interface"):
        frr.render(replace(BGP, interface=interface))


@pytest.mark.parametrize("field", ["vips", "own", "peers"])
def test_nor_in_the_scope_of_an_address(field: str) -> None:
    scoped = (ip_address('fe80::1%x"\n}\ninclude x'),)

    with pytest.raises(InvalidRequestError, match="has a scope"):
        keepalived.render(replace(VRRP, **{field: scoped}))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="has a scope"):
        bird.render(replace(BGP, vips=scoped))
    with pytest.raises(InvalidRequestError, match="has a scope"):
        frr.render(replace(BGP, vips=scoped))


SESSIONS = pytest.mark.parametrize(
    "bgp",
    [
        BGP,
        replace(BGP, bfd=False),
        replace(BGP, vips=VIPS[:1]),
        replace(BGP, vips=VIPS[1:]),
        replace(BGP, routers=BGP.routers[1:]),
    ],
    ids=["both", "without BFD", "IPv4", "IPv6", "over IPv6"],
)


@SESSIONS
def test_bird_takes_it(bgp: Bgp, tmp_path: Path) -> None:
    file = tmp_path / "bird.conf"
    file.write_text(bird.render(bgp))

    checked = subprocess.run(["bird", "-p", "-c", str(file)], capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stderr) == (0, "")


@SESSIONS
def test_frr_takes_it(bgp: Bgp, tmp_path: Path) -> None:
    file = tmp_path / "frr.conf"
    file.write_text(frr.render(bgp))

    checked = subprocess.run(["vtysh", "-C", "-f", str(file)], capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_only_vips_are_announced() -> None:
    text = bird.render(BGP)
    assert "net ~ [ 192.0.2.10/32 ]" in text
    assert "net ~ [ 2001:db8::10/128 ]" in text
    assert text.count("import none;") == 4


def test_frr_announces_only_vips_and_learns_nothing() -> None:
    """Of connected routes, which are those of all interfaces."""
    text = frr.render(BGP)
    assert "ip prefix-list vips4 seq 5 permit 192.0.2.10/32\n!" in text
    assert "ipv6 prefix-list vips6 seq 5 permit 2001:db8::10/128\n!" in text
    assert (
        text.count("match interface vips\n") == text.count(" redistribute connected route-map only-vips") == 2
    )
    assert text.count(" out\n") == text.count(" route-map nothing in\n") == text.count(" activate\n") == 4


def test_frr_announces_ipv4_over_ipv6_where_the_session_is_of_ipv6() -> None:
    assert "neighbor 2001:db8::fe capability extended-nexthop\n" in frr.render(BGP)
    assert "extended-nexthop" not in frr.render(replace(BGP, routers=BGP.routers[:1]))
    assert "extended-nexthop" not in frr.render(replace(BGP, vips=VIPS[1:]))


@pytest.mark.parametrize(("changes", "why"), [({"vips": ()}, "no VIP"), ({"routers": ()}, "no router")])
@pytest.mark.parametrize("render", [bird.render, frr.render])
def test_nothing_to_announce_is_refused(
    render: Callable[[Bgp], str], changes: dict[str, object], why: str
) -> None:
    with pytest.raises(InvalidRequestError, match=why):
        render(replace(BGP, **changes))  # type: ignore[arg-type]
