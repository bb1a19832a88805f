# SPDX-License-Identifier: Apache-2.0
"""What another configuration would change for the flows of a capture.

A flow is what TCP or UDP packets with the same addresses and ports have in common. It moves with its first packet
that goes elsewhere: to another backend, or with another verdict. Pure.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from xdpdirector.replay.batch import Batch
from xdpdirector.replay.describe import Flow, flow_of
from xdpdirector.replay.outcomes import Decision, Decisions

_HEADERS = 128  # of a frame: where addresses and ports are, as a rule


class Move(NamedTuple):
    """From where to where; see `destination`."""

    before: str
    after: str


def destination(decision: Decision) -> str:
    """`service/backend` for what is forwarded, else the reason."""
    if decision.verdict == "forward":
        return f"{decision.service}/{decision.backend}"
    return decision.reason


@dataclass
class Changes:
    """`flows`: how each one moved, or None; only those that are for a service, before or after. `frames`: of all,
    how many go elsewhere."""

    flows: dict[Flow, Move | None] = field(default_factory=dict)
    frames: int = 0
    others: Counter[Move] = field(default_factory=Counter)
    """Frames that belong to no flow and go elsewhere: fragments, ICMP errors."""

    def add(self, batch: Batch, before: Decisions, after: Decisions) -> None:
        """The next frames, by what became of them."""
        served = _served(before) | _served(after)
        for place in np.flatnonzero(served).tolist():
            move = Move(destination(before[place]), destination(after[place]))
            moves = move.before != move.after
            self.frames += moves
            flow = flow_of(batch.frames[place, :_HEADERS].tobytes())
            if flow is None:
                self.others[move] += moves
            elif moves:
                if self.flows.get(flow) is None:
                    self.flows[flow] = move
            else:
                self.flows.setdefault(flow, None)

    @property
    def moves(self) -> Counter[Move]:
        """Flows by their move, without those that stay."""
        return Counter(move for move in self.flows.values() if move)

    def document(self) -> dict[str, Any]:
        """As JSON values; the largest moves first."""
        moved = self.moves
        return {
            "flows": len(self.flows),
            "moved": moved.total(),
            "moves": [_row(move, count, "flows") for move, count in _ordered(moved)],
            "frames": self.frames,
            "others": [_row(move, count, "frames") for move, count in _ordered(+self.others)],
        }


def _served(decisions: Decisions) -> Any:
    """Which frames are for a service."""
    values, places = np.unique(decisions.codes, return_inverse=True)
    return np.array([bool(decisions.named(code).service) for code in values.tolist()])[places]


def _ordered(moves: Counter[Move]) -> list[tuple[Move, int]]:
    return sorted(moves.items(), key=lambda item: (-item[1], item[0]))


def _row(move: Move, count: int, what: str) -> dict[str, Any]:
    return {"from": move.before, "to": move.after, what: count}
