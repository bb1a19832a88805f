# SPDX-License-Identifier: Apache-2.0
"""The `tcp` check: opens a connection."""

from __future__ import annotations

from xdpdirector.health.checks import Dial, Target
from xdpdirector.health.checks.stream import channel
from xdpdirector.model.checks import CheckSpec


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the connection opens in time."""
    async with channel(spec, target, dial):
        pass
