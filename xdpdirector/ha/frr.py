# SPDX-License-Identifier: Apache-2.0
"""frr.conf (FRR 8 or later) for a director that announces its VIPs by BGP: connected routes of the interface that
carries them, as long as they stand there. Needs the daemons bgpd, and bfdd for BFD (/etc/frr/daemons).
"""

from __future__ import annotations

from collections.abc import Sequence

from xdpdirector.ha.bgp import Bgp
from xdpdirector.model.listener import Address

_BFD = """\
bfd
 profile xdpdirector
  transmit-interval 300
  receive-interval 300
  detect-multiplier 3
 exit
exit
!
"""
_WORDS = {4: "ip", 6: "ipv6"}


def render(bgp: Bgp) -> str:
    """The whole file. InvalidRequestError when there is nothing to announce, or nobody to tell."""
    bgp.require_complete("FRR")
    parts = [
        "! BGP for XDP Director (FRR). Written by `xdpdirector frr-config`.\nfrr defaults traditional\n!\n"
    ]
    if bgp.bfd:
        parts.append(_BFD)
    parts += [_only_vips(bgp, family) for family in bgp.families]
    parts.append("route-map nothing deny 10\nexit\n!\n")
    sessions = "".join(_session(bgp, router) for router in bgp.routers)
    families = "".join(_family(bgp.routers, family) for family in bgp.families)
    parts.append(
        f"router bgp {bgp.asn}\n bgp router-id {bgp.router_id}\n no bgp default ipv4-unicast\n"
        f"{sessions}{families}exit\n!\n"
    )
    return "".join(parts)


def _only_vips(bgp: Bgp, family: int) -> str:
    """Of the addresses of all interfaces, which `redistribute connected` offers, the VIPs alone. Redistributed
    routes have the origin `incomplete`: a router would prefer those of a director with BIRD, and send it all
    flows."""
    word = _WORDS[family]
    permitted = "".join(
        f"{word} prefix-list vips{family} seq {5 * number} permit {prefix}\n"
        for number, prefix in enumerate(bgp.prefixes(family), 1)
    )
    return (
        f"{permitted}!\nroute-map only-vips{family} permit 10\n match interface {bgp.interface}\n"
        f" match {word} address prefix-list vips{family}\n set origin igp\nexit\n!\n"
    )


def _session(bgp: Bgp, router: Address) -> str:
    """A session of IPv6 announces IPv4 routes with a next hop of its own family (RFC 8950)."""
    lines = [f"remote-as {bgp.router_asn}", "timers 3 9", "timers connect 5"]
    if bgp.bfd:
        lines.append("bfd profile xdpdirector")
    if router.version == 6 and 4 in bgp.families:
        lines.append("capability extended-nexthop")
    return "".join(f" neighbor {router} {line}\n" for line in lines)


def _family(routers: Sequence[Address], family: int) -> str:
    neighbors = "".join(
        f"  neighbor {router} activate\n  neighbor {router} route-map nothing in\n"
        f"  neighbor {router} prefix-list vips{family} out\n"
        for router in routers
    )
    return (
        f" !\n address-family ipv{family} unicast\n  redistribute connected route-map only-vips{family}\n"
        f"{neighbors} exit-address-family\n"
    )
