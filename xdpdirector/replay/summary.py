# SPDX-License-Identifier: Apache-2.0
"""Frames counted by what became of them. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xdpdirector.dataplane.maps import Array
from xdpdirector.replay.batch import ROOM, Batch
from xdpdirector.replay.outcomes import Decision, Decisions

RECORDED = {"forward_new", "forward_before", "forward_reopened"}
"""Reasons of packets whose flow gets a record."""


@dataclass
class Summary:
    """`cut`: frames of which the capture has only the beginning; `shortened`: longer than is replayed; `seconds`:
    from the first to the last frame."""

    frames: int = 0
    octets: int = 0
    cut: int = 0
    shortened: int = 0
    seconds: float = 0.0
    decisions: Counter[Decision] = field(default_factory=Counter)

    def add(self, batch: Batch, seconds: Array, decided: Decisions) -> None:
        """The next frames, and what became of them."""
        self.frames += len(batch)
        self.octets += int(batch.lengths.sum())
        self.cut += int(np.count_nonzero(batch.captured < np.minimum(batch.lengths, ROOM)))
        self.shortened += int(np.count_nonzero(batch.lengths > ROOM))
        self.seconds = float(seconds[-1])
        self.decisions += decided.count()

    @property
    def verdicts(self) -> Counter[str]:
        """Frames by `pass`, `forward`, `reject`, `drop`; or `unread`."""
        return self._by(lambda decision: decision.verdict)

    @property
    def reasons(self) -> Counter[str]:
        return self._by(lambda decision: decision.reason)

    @property
    def backends(self) -> Counter[tuple[str, str]]:
        """Frames that were forwarded, by service and backend."""
        return self._by(
            lambda decision: (decision.service, decision.backend) if decision.verdict == "forward" else None
        )

    @property
    def opened(self) -> Counter[tuple[str, str]]:
        """Connections that were recorded, by service and backend; what a ring forwards alone is not."""
        return self._by(
            lambda decision: (decision.service, decision.backend) if decision.reason in RECORDED else None
        )

    def _by(self, key: Any) -> Counter[Any]:
        counted: Counter[Any] = Counter()
        for decision, number in self.decisions.items():
            if (name := key(decision)) is not None:
                counted[name] += number
        return counted

    def document(self) -> dict[str, Any]:
        """As JSON values, the most frequent first."""
        services: dict[str, dict[str, int]] = {}
        for (service, backend), number in sorted(self.backends.items()):
            services.setdefault(service, {})[backend] = number
        return {
            "frames": self.frames,
            "bytes": self.octets,
            "seconds": round(self.seconds, 6),
            "cut": self.cut,
            "shortened": self.shortened,
            "verdicts": dict(self.verdicts.most_common()),
            "reasons": dict(self.reasons.most_common()),
            "forwarded": services,
        }
