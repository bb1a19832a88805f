# SPDX-License-Identifier: Apache-2.0
"""The `imap` check: greeting, and STARTTLS if configured (RFC 9051). No login."""

from __future__ import annotations

from xdpdirector.health.checks import Dial, Target, tls
from xdpdirector.health.checks.lines import begins
from xdpdirector.health.checks.stream import channel
from xdpdirector.model.checks import CheckSpec, ImapCheck


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the server greets with OK."""
    assert isinstance(spec, ImapCheck)
    async with channel(spec, target, dial) as talk:
        if spec.tls == "direct":
            await tls.secure(talk, spec)
        await begins(talk, ("* OK", "* PREAUTH"), "its greeting")
        if spec.tls == "start":
            await talk.send(b"a1 STARTTLS\r\n")
            await begins(talk, ("a1 OK",), "its answer to STARTTLS", passing="* ")
            await tls.secure(talk, spec)
        await talk.farewell(b"a2 LOGOUT\r\n")
