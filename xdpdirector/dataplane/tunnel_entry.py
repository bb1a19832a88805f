# SPDX-License-Identifier: Apache-2.0
"""`struct tunnel` of bpf/types.h from a tunnel. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from xdpdirector.dataplane.maps import address_words, network16
from xdpdirector.model import Address
from xdpdirector.net.tunnel import Tunnel

_KINDS = {"ipip": "TUNNEL_IPIP", "gue": "TUNNEL_GUE"}


def tunnel_fields(tunnel: Tunnel, kinds: Mapping[str, int]) -> dict[str, Any]:
    """All fields. `kinds`: `enum tunnel_kind`. The source is without the bits that the flow's hash fills."""
    spread = (1 << min(tunnel.spread, 32)) - 1
    source = type(tunnel.source)(int(tunnel.source) & ~spread)
    return {
        "source": _words(source),
        "destination": _words(tunnel.destination),
        "spread": int.from_bytes(spread.to_bytes(4, "big"), sys.byteorder),
        "mtu": tunnel.mtu,
        "ipv6": int(tunnel.destination.version == 6),
        "kind": kinds[_KINDS[tunnel.kind]],
        "port": network16(tunnel.port),
    }


def _words(address: Address) -> tuple[int, ...]:
    """An IPv4 address is the last word."""
    words = address_words(address)
    return (0,) * (4 - len(words)) + words
