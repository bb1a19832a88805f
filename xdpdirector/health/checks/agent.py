# SPDX-License-Identifier: Apache-2.0
"""The `agent` check: the server says itself how it is, in one line.

The words are those of HAProxy's agent-check: a percentage of its weight, `up`, `ready`, `drain`, `maint`, `down`,
`failed`, `stopped`, several of them with spaces or commas between; what follows a `#` is the reason.
"""

from __future__ import annotations

import re

from xdpdirector.health.checks import CheckFailed, Dial, Target
from xdpdirector.health.checks.agent_weight import share_of
from xdpdirector.health.checks.excerpts import excerpt
from xdpdirector.health.checks.stream import channel
from xdpdirector.model.checks import AgentCheck, CheckSpec

_DOWN = {"down", "failed", "fail", "stopped"}
_NO_NEW = {"drain", "maint"}
_FINE = {"up", "ready"}


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> float | None:
    """Fine when it says so; the part of its weight that it asks for, 0 for `drain` and `maint`."""
    assert isinstance(spec, AgentCheck)
    async with channel(spec, target, dial) as talk:
        talk.expected = "its state"
        if spec.send:
            await talk.send(f"{spec.send}\n".encode())
        octets = await talk.line()
    return judge(octets, target)


def judge(octets: bytes, target: Target) -> float | None:
    """What the line says; CheckFailed when that is `down`, or nothing that is known."""
    line = octets.decode("ascii", "replace")
    words, _, reason = line.partition("#")
    share: float | None = None
    for word in re.split(r"[\s,]+", words.strip().lower()):
        if word in _DOWN:
            because = f": {reason.strip()[:120]}" if reason.strip() else ""
            raise CheckFailed(f"the agent on {target} says '{word}'{because}")
        if word in _NO_NEW:
            return 0.0
        if word not in _FINE:
            share = share_of(word)
            if share is None:
                raise CheckFailed(
                    f"the agent on {target} says {excerpt(octets, 80)}, expected 'up', 'down' or like '75%'"
                )
    return share
