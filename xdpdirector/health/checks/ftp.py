# SPDX-License-Identifier: Apache-2.0
"""The `ftp` check: greeting, and AUTH TLS if configured (RFC 959, RFC 4217). No login."""

from __future__ import annotations

from xdpdirector.health.checks import Dial, Target, tls
from xdpdirector.health.checks.replies import command, reply
from xdpdirector.health.checks.stream import channel
from xdpdirector.model.checks import CheckSpec, FtpCheck


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the server greets, and accepts AUTH TLS."""
    assert isinstance(spec, FtpCheck)
    async with channel(spec, target, dial) as talk:
        if spec.tls == "direct":
            await tls.secure(talk, spec)
        await reply(talk, 220)
        if spec.tls == "start":
            await command(talk, "AUTH TLS", 234)
            await tls.secure(talk, spec)
        await talk.farewell(b"QUIT\r\n")
