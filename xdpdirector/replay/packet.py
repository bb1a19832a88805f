# SPDX-License-Identifier: Apache-2.0
"""A packet of a capture, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from xdpdirector.replay.outcomes import Decision


@dataclass(frozen=True, slots=True)
class Packet:
    """`number` counts from 1, `seconds` since the capture's first packet; `flow` is for people."""

    number: int
    seconds: float
    flow: str
    decision: Decision
