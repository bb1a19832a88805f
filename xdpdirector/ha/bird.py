# SPDX-License-Identifier: Apache-2.0
"""bird.conf (BIRD 2) for a director that announces its VIPs by BGP: /32 and /128 routes of the interface that
carries them, as long as they stand there. With BFD a router notices a dead director within a second.
"""

from __future__ import annotations

from collections.abc import Sequence

from xdpdirector.ha.bgp import Bgp
from xdpdirector.model.listener import Address

_BFD = """\
protocol bfd {
    interface "*" {
        interval 300 ms;
        multiplier 3;
    };
}
"""


def render(bgp: Bgp) -> str:
    """The whole file. InvalidRequestError when there is nothing to announce, or nobody to tell."""
    bgp.require_complete("BIRD")
    families = bgp.families
    parts = [
        "# BGP for XDP Director (BIRD 2). Written by `xdpdirector bird-config`.\n"
        f"router id {bgp.router_id};\n\nprotocol device {{\n    scan time 1;\n}}\n",
        _direct(bgp, families),
    ]
    if bgp.bfd:
        parts.append(_BFD)
    parts += [_filter(bgp, family) for family in families]
    parts += [_session(bgp, number, router, families) for number, router in enumerate(bgp.routers, 1)]
    return "\n".join(parts)


def _direct(bgp: Bgp, families: Sequence[int]) -> str:
    channels = "".join(f"    ipv{family};\n" for family in families)
    return f'protocol direct vips {{\n    interface "{bgp.interface}";\n{channels}}}\n'


def _filter(bgp: Bgp, family: int) -> str:
    vips = ", ".join(bgp.prefixes(family))
    return (
        f"filter only_vips{family} {{\n    if source = RTS_DEVICE && net ~ [ {vips} ] then accept;\n"
        "    reject;\n}\n"
    )


def _session(bgp: Bgp, number: int, router: Address, families: Sequence[int]) -> str:
    channels = "".join(
        f"    ipv{family} {{\n        import none;\n        export filter only_vips{family};\n"
        f"{_next_hop(router, family)}    }};\n"
        for family in families
    )
    bfd = "    bfd on;\n" if bgp.bfd else ""
    return (
        f"protocol bgp router{number} {{\n    local as {bgp.asn};\n    neighbor {router} as {bgp.router_asn};\n"
        f"    hold time 9;\n{bfd}{channels}}}\n"
    )


def _next_hop(router: Address, family: int) -> str:
    """A session of one family announces the other one with a next hop of its own family (RFC 8950)."""
    if router.version == family:
        return "        next hop self;\n"
    return (
        "        extended next hop on;\n        next hop self;\n"
        if family == 4
        else "        next hop self;\n"
    )
