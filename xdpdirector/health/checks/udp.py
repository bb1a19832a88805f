# SPDX-License-Identifier: Apache-2.0
"""The `udp` check: sends a datagram; expects an answer, or at least no ICMP error (RFC 1122, 4.1.3.3)."""

from __future__ import annotations

from xdpdirector.health.checks import (
    CheckFailed,
    CheckImpossible,
    Dial,
    Target,
    errno_messages,
)
from xdpdirector.health.checks.datagrams import answers, exchange, silence
from xdpdirector.health.checks.excerpts import excerpt
from xdpdirector.model.checks import CheckSpec, UdpCheck
from xdpdirector.model.patterns import Search


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the answer is as expected; if none is expected, unless the port is reported as closed."""
    assert isinstance(spec, UdpCheck)
    search: Search | None = None

    def late() -> CheckFailed | CheckImpossible:
        return errno_messages.late_search(search, target, spec.timeout) if search else silence(spec, target)

    try:
        async with exchange(spec, target, dial, late=late) as opened:
            opened.send(bytes.fromhex(spec.send_hex) or spec.send.encode())
            said = await anext(answers(opened, target))
            if spec.expect is not None:
                search = Search(spec.expect, said)
                if not await search.found():
                    raise CheckFailed(
                        f"{target} answered {excerpt(said)}, in which '{spec.expect}' is not found"
                    )
    except CheckFailed as failure:
        if spec.expect is None and isinstance(failure.__context__, TimeoutError):
            return
        raise
