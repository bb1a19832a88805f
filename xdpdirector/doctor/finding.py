# SPDX-License-Identifier: Apache-2.0
"""One thing that was looked at: how it is, where that was read, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Level(StrEnum):
    """`note`: worth knowing, needs nothing. `warning`: something is lost, or will be. `error`: it does not work."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """`remedy` is empty for what needs none; `topic` is the family's name, given by the examination."""

    level: Level
    text: str
    evidence: str
    remedy: str = ""
    topic: str = ""

    def document(self) -> dict[str, str]:
        return {**asdict(self), "level": self.level.value}


def ok(text: str, evidence: str) -> Finding:
    return Finding(Level.OK, text, evidence)


def note(text: str, evidence: str, remedy: str = "") -> Finding:
    return Finding(Level.NOTE, text, evidence, remedy)


def warning(text: str, evidence: str, remedy: str) -> Finding:
    return Finding(Level.WARNING, text, evidence, remedy)


def error(text: str, evidence: str, remedy: str) -> Finding:
    return Finding(Level.ERROR, text, evidence, remedy)
