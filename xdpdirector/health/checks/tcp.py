# SPDX-License-Identifier: Apache-2.0
"""The `tcp` check: does somebody listen?"""

from __future__ import annotations

from xdpdirector.health.checks import Dial, Target
from xdpdirector.health.checks.stream import channel
from xdpdirector.model.checks import CheckSpec


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Fine when the connection opens in time."""
    async with channel(spec, target, dial):
        pass
