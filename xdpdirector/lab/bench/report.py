# SPDX-License-Identifier: Apache-2.0
"""All that a run of the bench has found, as one document. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from xdpdirector.lab.bench.figure import Figures
from xdpdirector.lab.bench.machine import Machine
from xdpdirector.lab.bench.target import Verdict
from xdpdirector.lab.bench.workload import Pace

VERSION = 1


@dataclass(frozen=True)
class Program:
    """What the kernel says of the director's program; `entries`: of the tables that it ran with."""

    verified_instructions: int
    translated_bytes: int
    native_bytes: int
    entries: dict[str, int]

    def __str__(self) -> str:
        return (
            f"{self.verified_instructions:,} instructions verified, {self.translated_bytes // 8:,} translated, "
            f"{self.native_bytes:,} bytes of machine code"
        )


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
            "program": asdict(self.program),
            "targets": [verdict.document() for verdict in self.verdicts],
            "figures": [figure.document() for figure in self.figures.values()],
        }
