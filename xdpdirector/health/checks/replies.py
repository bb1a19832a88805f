# SPDX-License-Identifier: Apache-2.0
"""Reads three-digit replies, as in SMTP (RFC 5321, 4.2) and FTP (RFC 959, 4.2), over a channel."""

from __future__ import annotations

import re

from xdpdirector.health.checks import CheckFailed
from xdpdirector.health.checks.excerpts import excerpt
from xdpdirector.health.checks.stream import Channel

_REPLY = re.compile(rb"(\d{3})([ -]?)(.*)")


async def reply(talk: Channel, code: int, *, to: str = "") -> None:
    """Read one reply, of one or more lines; CheckFailed if it has another code. `to`: the command."""
    what = f"answer to {to}" if to else "greeting"
    talk.expected = f"an {what}" if to else "its greeting"
    line = await talk.line()
    match = _REPLY.fullmatch(line)
    if not match:
        raise CheckFailed(
            f"the {what} of {talk.target} is none of this protocol: it begins with {excerpt(line)}"
        )
    while match[2] == b"-" and not re.match(match[1] + rb"( |$)", line):
        line = await talk.line()
    if int(match[1]) != code:
        words = match[0][:120].decode("ascii", "replace")
        raise CheckFailed(f"{talk.target} answered '{words}' to {to or 'the connection'}, expected {code}")


async def command(talk: Channel, words: str, code: int) -> None:
    """Send a command and read the reply."""
    await talk.send(f"{words}\r\n".encode())
    await reply(talk, code, to=words)
