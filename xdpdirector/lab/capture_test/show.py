# SPDX-License-Identifier: Apache-2.0
"""The outcome of a play, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xdpdirector.lab.capture_test.outcome import Outcome

_MOST = 10


def show(outcome: Outcome, console: Console) -> None:
    """A table of the backends, and what is wrong."""
    rows = Table(box=None, pad_edge=False)
    for title in ("BACKEND", "EXPECTED", "RECEIVED", "AS EXPECTED"):
        rows.add_column(title, justify="right" if title in ("EXPECTED", "RECEIVED") else "left")
    for each in outcome.backends:
        rows.add_row(
            each.backend, f"{each.expected:,}", f"{each.received:,}", "yes" if each.is_right else "NO"
        )
    console.print(rows)
    for line in lines(outcome):
        console.print(Text(line), soft_wrap=True)


def lines(outcome: Outcome) -> Iterator[str]:
    """What there is to say beside the table."""
    yield ""
    left_out = f"; {outcome.left_out:,} are no requests, or no whole frames" if outcome.left_out else ""
    yield f"{outcome.played:,} frames were played{left_out}"
    if outcome.is_cut:
        yield "the capture has more: see --frames and --seconds"
    for each in outcome.backends:
        yield from _some(f"{each.backend} did not get", each.missing)
        yield from _some(f"{each.backend} should not have got", each.surplus)
        if not each.in_order:
            yield f"{each.backend} got its frames in another order"
    yield from _some("not as recorded:", outcome.decided)
    if outcome.lost:
        yield f"{outcome.lost:,} frames could not be captured at the backends: nothing is proved, play slower"
    if not outcome.played:
        yield "nothing was played, so nothing is proved"


def _some(what: str, which: Sequence[str]) -> Iterator[str]:
    for one in which[:_MOST]:
        yield f"{what} {one}"
    if len(which) > _MOST:
        yield f"{what} {len(which) - _MOST:,} more"
