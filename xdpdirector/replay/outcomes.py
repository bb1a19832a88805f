# SPDX-License-Identifier: Apache-2.0
"""What became of frames: a reason, and the service and backend that it speaks of. Pure; knows names, and numbers
for speed, but nothing of maps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from xdpdirector.dataplane.maps import Array

UNREAD = "unread_cut"
"""Not the program's: of its headers the capture has too little to ask it."""
_OF_A_BACKEND = frozenset({"pass_local", "reject_down", "drop_down", "drop_unresolved"})
_UNREAD_CODE = 0xFF
_SERVICE, _BACKEND = 8, 32
_NOBODY = 0xFFFF


class Decision(NamedTuple):
    """`reason` as the director's counters name it; `service` and `backend` are empty where it speaks of none."""

    reason: str
    service: str = ""
    backend: str = ""

    @property
    def verdict(self) -> str:
        """`pass`, `forward`, `reject`, `drop`; or `unread`."""
        return self.reason.partition("_")[0]

    def __str__(self) -> str:
        whom = f"{self.service}/{self.backend}" if self.backend else self.service
        return f"{self.reason} {whom}".rstrip()


@dataclass(frozen=True)
class Names:
    """Numbers that the program notes, and what they stand for. A backend's stands for its service, too, which the
    program does not look up for a fragment."""

    reasons: Mapping[int, str]
    services: Mapping[int, str]
    backends: Mapping[int, tuple[str, str]]

    def decision(self, code: int) -> Decision:
        """Of one of the `codes`."""
        if code & 0xFF == _UNREAD_CODE:
            return Decision(UNREAD)
        reason = self.reasons[code & 0xFF]
        named = reason.startswith("forward_") or reason in _OF_A_BACKEND
        service, backend = self.backends.get(code >> _BACKEND, ("", "")) if named else ("", "")
        return Decision(reason, service or self.services.get((code >> _SERVICE & 0xFFFFFF) - 1, ""), backend)


def codes(outcomes: Array, has_service: int, places: Array, count: int) -> Array:
    """A number for each of `count` frames, which `Names` can tell; `outcomes` of those in `places`, as the program
    noted them, and `has_service` the bit in their facts."""
    served = (outcomes["facts"] & has_service) != 0
    service = np.where(served, outcomes["service"].astype(np.uint64) + np.uint64(1), np.uint64(0))
    found = np.full(count, _UNREAD_CODE, np.uint64)
    found[places] = (
        outcomes["reason"].astype(np.uint64)
        | service << np.uint64(_SERVICE)
        | (outcomes["backend"].astype(np.uint64) & np.uint64(_NOBODY)) << np.uint64(_BACKEND)
    )
    return found


class Decisions:
    """Of a batch of frames, in their order."""

    def __init__(self, found: Array, names: Names) -> None:
        self.codes = found
        self.named = cache(names.decision)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, place: int) -> Decision:
        return self.named(int(self.codes[place]))

    def count(self) -> Counter[Decision]:
        """How many frames had each."""
        values, counts = np.unique(self.codes, return_counts=True)
        counted: Counter[Decision] = Counter()
        for code, number in zip(values.tolist(), counts.tolist(), strict=True):
            counted[self.named(code)] += number
        return counted
