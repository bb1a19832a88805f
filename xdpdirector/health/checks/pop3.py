# SPDX-License-Identifier: Apache-2.0
"""The `pop3` check: greeting, and STLS if configured (RFC 1939, RFC 2595). No login."""

from __future__ import annotations

from xdpdirector.health.checks import Dial, Target, tls
from xdpdirector.health.checks.lines import begins
from xdpdirector.health.checks.stream import channel
from xdpdirector.model.checks import CheckSpec, Pop3Check


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the server greets with +OK."""
    assert isinstance(spec, Pop3Check)
    async with channel(spec, target, dial) as talk:
        if spec.tls == "direct":
            await tls.secure(talk, spec)
        await begins(talk, ("+OK",), "its greeting")
        if spec.tls == "start":
            await talk.send(b"STLS\r\n")
            await begins(talk, ("+OK",), "its answer to STLS")
            await tls.secure(talk, spec)
        await talk.farewell(b"QUIT\r\n")
