# SPDX-License-Identifier: Apache-2.0
"""The beginning of received data, for messages. Pure."""

from __future__ import annotations

MOST = 40  # bytes


def excerpt(data: bytes, most: int = MOST) -> str:
    """The first line, as `'SSH-2.0-OpenSSH'`; for binary data as `the octets 16 03 01`; or `nothing`.
    Printable ASCII only."""
    if not data:
        return "nothing"
    begin = bytes(data[:most])
    odd = sum((octet < 32 and octet not in b"\r\n\t") or octet > 126 for octet in begin)
    if odd * 4 > len(begin):
        return f"the octets {begin[:16].hex(' ')}{'...' if len(data) > 16 else ''}"
    line = begin.lstrip(b"\r\n").partition(b"\n")[0].rstrip(b"\r")
    if not line:
        return "an empty line"
    more = "..." if line == begin and len(data) > most else ""
    return (
        "'" + "".join(chr(octet) if 32 <= octet <= 126 else f"\\x{octet:02x}" for octet in line) + f"{more}'"
    )
