# SPDX-License-Identifier: Apache-2.0
"""What became of a peer's records, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Merged:
    """What became of records. `unknown`: of a service, VIP, backend or state that this director does not have;
    `full`: without a place in the table."""

    inserted: int = 0
    updated: int = 0
    kept: int = 0
    conflicts: int = 0
    unknown: int = 0
    full: int = 0

    def add(self, other: Merged) -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
