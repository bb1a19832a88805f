# SPDX-License-Identifier: Apache-2.0
"""All that a run of the bench has found, as one document. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dev.bench.figure import Figures
from dev.bench.goals import Verdict
from dev.bench.machine import Machine
from dev.bench.workload import Pace

VERSION = 1


@dataclass(frozen=True)
class Part:
    """What the kernel says of one loaded function."""

    name: str
    verified_instructions: int
    translated_bytes: int
    native_bytes: int


@dataclass(frozen=True)
class Program:
    """The director's program: its entry and then its stages; `entries`: of the tables that it ran with."""

    parts: Sequence[Part]
    entries: dict[str, int]

    @property
    def verified_instructions(self) -> int:
        return sum(part.verified_instructions for part in self.parts)

    @property
    def largest(self) -> int:
        """The verified instructions of the stage that has most."""
        return max(part.verified_instructions for part in self.parts)

    def __str__(self) -> str:
        each = ", ".join(f"{part.name} {part.verified_instructions:,}" for part in self.parts)
        return (
            f"{self.verified_instructions:,} instructions verified ({each}), "
            f"{sum(part.translated_bytes for part in self.parts) // 8:,} translated, "
            f"{sum(part.native_bytes for part in self.parts):,} bytes of machine code"
        )

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "verified_instructions": self.verified_instructions}


@dataclass(frozen=True)
class Report:
    """`stolen`: share of the measured CPU's time that the hypervisor gave to others."""

    machine: Machine
    pace: Pace
    program: Program
    figures: Figures
    verdicts: Sequence[Verdict]
    seconds: float
    stolen: float

    def document(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "machine": self.machine.document(),
            "stolen": self.stolen,
            "seconds": round(self.seconds, 1),
            "pace": asdict(self.pace),
            "program": self.program.document(),
            "targets": [verdict.document() for verdict in self.verdicts],
            "figures": [figure.document() for figure in self.figures.values()],
        }
