# SPDX-License-Identifier: Apache-2.0
"""The beginning of what a server sent, for a sentence that people read. Pure."""

from __future__ import annotations

MOST = 40  # octets
_ESCAPES = {"\r": r"\r", "\n": r"\n", "\t": r"\t", "\\": r"\\"}


def excerpt(data: bytes, most: int = MOST) -> str:
    r"""`'SSH-2.0-OpenSSH\r\n'`, `nothing` or, for what is no text, `the octets 16 03 01`. Printable ASCII only."""
    if not data:
        return "nothing"
    begin = bytes(data[:most])
    odd = sum((octet < 32 and octet not in b"\r\n\t") or octet > 126 for octet in begin)
    more = "..." if len(data) > most else ""
    if odd * 4 > len(begin):
        return f"the octets {begin[:16].hex(' ')}{'...' if len(data) > 16 else ''}"
    shown = "".join(
        _ESCAPES.get(chr(octet), chr(octet) if 32 <= octet <= 126 else f"\\x{octet:02x}") for octet in begin
    )
    return f"'{shown}{more}'"
