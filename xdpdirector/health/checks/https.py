# SPDX-License-Identifier: Apache-2.0
"""The `https` check: `http` over TLS."""

from __future__ import annotations

from xdpdirector.health.checks import Dial, Target, http, tls
from xdpdirector.health.checks.stream import channel
from xdpdirector.model.checks import CheckSpec, HttpsCheck


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> float | None:
    """As `http.probe`, after a handshake."""
    assert isinstance(spec, HttpsCheck)
    async with channel(spec, target, dial) as talk:
        await tls.secure(talk, spec)
        return await http.ask(talk, spec, usual_port=443)
