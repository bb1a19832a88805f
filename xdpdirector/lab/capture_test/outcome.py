# SPDX-License-Identifier: Apache-2.0
"""What each backend received beside what it should have: frame by frame, byte by byte. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xdpdirector.replay.describe import described


@dataclass(frozen=True)
class Delivery:
    """A frame as it should reach a backend, and its number in the capture."""

    number: int
    frame: bytes


@dataclass(frozen=True)
class Received:
    """Of one backend. `missing` and `surplus` are sentences; `in_order`: all that came had the expected order."""

    backend: str
    expected: int
    received: int
    missing: tuple[str, ...]
    surplus: tuple[str, ...]
    in_order: bool

    @property
    def is_right(self) -> bool:
        return not self.missing and not self.surplus and self.in_order


@dataclass
class Outcome:
    """Of a whole play. `decided`: differences between what replay says and what was recorded; `lost`: frames that
    could not be captured, so that nothing is proved."""

    played: int
    left_out: int
    is_cut: bool
    backends: list[Received] = field(default_factory=list)
    decided: list[str] = field(default_factory=list)
    lost: int = 0

    @property
    def passed(self) -> bool:
        return (
            bool(self.played)
            and not self.lost
            and not self.decided
            and all(b.is_right for b in self.backends)
        )

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "passed": self.passed,
            "played": self.played,
            "left_out": self.left_out,
            "is_cut": self.is_cut,
            "lost": self.lost,
            "decided": self.decided,
            "backends": [vars(each) | {"is_right": each.is_right} for each in self.backends],
        }


def judge(backend: str, expected: Sequence[Delivery], received: Sequence[bytes]) -> Received:
    """One backend's frames."""
    ought, is_ = Counter(each.frame for each in expected), Counter(received)
    lacking, surplus = ought - is_, is_ - ought
    missing = []
    for each in expected:
        if lacking[each.frame]:
            lacking[each.frame] -= 1
            missing.append(f"packet {each.number}, {described(each.frame)}")
    return Received(
        backend,
        len(expected),
        len(received),
        tuple(missing),
        tuple(described(frame) for frame in surplus.elements()),
        _in_order([each.frame for each in expected], received, ought & is_),
    )


def _in_order(expected: Sequence[bytes], received: Sequence[bytes], both: Mapping[bytes, int]) -> bool:
    """Those that are in both."""
    return _only(expected, both) == _only(received, both)


def _only(frames: Sequence[bytes], which: Mapping[bytes, int]) -> list[bytes]:
    left, found = Counter(which), []
    for frame in frames:
        if left[frame]:
            left[frame] -= 1
            found.append(frame)
    return found
