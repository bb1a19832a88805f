# SPDX-License-Identifier: Apache-2.0
"""The `smtp` check: greeting, EHLO, and STARTTLS if configured (RFC 5321, RFC 3207)."""

from __future__ import annotations

from xdpdirector.health.checks import Dial, Target, tls
from xdpdirector.health.checks.replies import command, reply
from xdpdirector.health.checks.stream import channel
from xdpdirector.model.checks import CheckSpec, SmtpCheck


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the server accepts all of it."""
    assert isinstance(spec, SmtpCheck)
    hello = f"EHLO {spec.hello}"
    async with channel(spec, target, dial) as talk:
        if spec.tls == "direct":
            await tls.secure(talk, spec)
        await reply(talk, 220)
        await command(talk, hello, 250)
        if spec.tls == "start":
            await command(talk, "STARTTLS", 220)
            await tls.secure(talk, spec)
            await command(talk, hello, 250)
        await talk.farewell(b"QUIT\r\n")
