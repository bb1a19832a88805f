# SPDX-License-Identifier: Apache-2.0
"""The first line of a connection that a process of this host passes on: PROXY protocol, version 1 (HAProxy's
doc/proxy-protocol.txt, section 2.1).

Who comes that way has none of the rights of the process: it is an address, and needs a token or a session. So
nobody gains by saying so. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

LONGEST = 107  # octets, the line's end among them
_BEGIN, _END = b"PROXY ", b"\r\n"


@dataclass(frozen=True)
class Relayed:
    """`source`: the address and the port that the connection comes from; `rest`: what came behind the line."""

    source: tuple[str, int]
    rest: bytes


def may_begin(head: bytes) -> bool:
    """Whether more octets can make such a line of these."""
    return _BEGIN.startswith(head[: len(_BEGIN)]) and _END not in head


def read(head: bytes) -> Relayed | None:
    """None when it is no such line."""
    line, end, rest = head.partition(_END)
    try:
        word, family, source, _, port, _ = line.decode("ascii").split(" ")
        address, number = ip_address(source), int(port)
    except ValueError:
        return None
    right_family = family == f"TCP{address.version}"
    if not end or word != "PROXY" or not right_family or not 0 <= number <= 65535:
        return None
    return Relayed((str(address), number), rest)
