# SPDX-License-Identifier: Apache-2.0
"""Answers of one line that say in their first word whether all is well, over a channel."""

from __future__ import annotations

from collections.abc import Collection

from xdpdirector.checks import CheckFailed
from xdpdirector.checks.channel import Channel


async def begins(talk: Channel, wanted: Collection[str], what: str, *, passing: str = "") -> None:
    """CheckFailed unless the next line begins with one of these, in any case. Lines that begin with `passing` do
    not count. `what`: the line, in a sentence: `its greeting`."""
    talk.expected = what
    while True:
        line = (await talk.line())[:120].decode("ascii", "replace")
        if line.upper().startswith(tuple(each.upper() for each in wanted)):
            return
        if not passing or not line.startswith(passing):
            raise CheckFailed(f"{talk.target} sent {line!r} as {what}, expected '{' or '.join(wanted)}'")
