# SPDX-License-Identifier: Apache-2.0
"""The `agent` check: the server reports its own state in one line.

The words are those of HAProxy's agent-check: a percentage of its weight, `up`, `ready`, `drain`, `maint`,
`down`, `failed`, `stopped`; several are separated by spaces or commas; the text after a `#` is the reason.
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
    """Succeeds if the server reports that it is up; returns the share of its weight that it requests, 0 for
    `drain` and `maint`."""
    assert isinstance(spec, AgentCheck)
    async with channel(spec, target, dial) as talk:
        talk.expected = "its state"
        if spec.send:
            await talk.send(f"{spec.send}\n".encode())
        octets = await talk.line()
    return judge(octets, target)


def judge(octets: bytes, target: Target) -> float | None:
    """Interpret the line; CheckFailed if it says `down`, or has no known word."""
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
