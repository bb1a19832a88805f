# SPDX-License-Identifier: Apache-2.0
"""Reads line-based responses whose first word says whether they are positive, over a channel."""

from __future__ import annotations

from collections.abc import Collection

from xdpdirector.health.checks import CheckFailed
from xdpdirector.health.checks.excerpts import excerpt
from xdpdirector.health.checks.stream import Channel


async def begins(talk: Channel, wanted: Collection[str], what: str, *, passing: str = "") -> None:
    """CheckFailed unless the next line begins with one of these, case-insensitively. Lines that begin with
    `passing` are skipped. `what`: names the line in a sentence: `its greeting`."""
    talk.expected = what
    while True:
        octets = await talk.line()
        line = octets[:120].decode("ascii", "replace")
        if line.upper().startswith(tuple(each.upper() for each in wanted)):
            return
        if not passing or not line.startswith(passing):
            said, expected = excerpt(octets, 120), " or ".join(wanted)
            raise CheckFailed(f"{talk.target} sent {said} as {what}, expected '{expected}'")
