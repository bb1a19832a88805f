# SPDX-License-Identifier: Apache-2.0
"""The `udp` check: a datagram, and an answer or at least no ICMP error (RFC 1122, 4.1.3.3)."""

from __future__ import annotations

import re

from xdpdirector.checks import CheckFailed, Dial, Target
from xdpdirector.checks.datagrams import answers, exchange
from xdpdirector.checkspec import CheckSpec, UdpCheck


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Fine when the answer is as expected; when none is expected, as long as nobody says the port is closed."""
    assert isinstance(spec, UdpCheck)
    try:
        async with exchange(spec, target, dial) as opened:
            opened.send(bytes.fromhex(spec.send_hex) or spec.send.encode())
            said = await anext(answers(opened, target))
    except CheckFailed as failure:
        if spec.expect is None and isinstance(failure.__context__, TimeoutError):
            return
        raise
    if spec.expect is not None and not re.search(spec.expect.encode(), said):
        raise CheckFailed(f"{target} answered {said[:40]!r}, in which '{spec.expect}' is not found")
