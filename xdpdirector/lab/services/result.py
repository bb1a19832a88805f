# SPDX-License-Identifier: Apache-2.0
"""What the clients saw, as values: a row for each client, a cell for each thing that was done. Judges nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

COLUMNS = ("IPv4", "IPv6", "persistence", "drain", "loss")


@dataclass(frozen=True)
class Cell:
    """`seen`: in words; `met`: whether it is as it should be."""

    seen: str
    met: bool


@dataclass(frozen=True)
class Course:
    """One session through a drain or a loss: what became of it, after so many seconds; who took the next one."""

    family: str
    words: str
    met: bool
    new: str = ""
    seconds: float | None = None


def merged(courses: Sequence[Course]) -> Cell:
    """One cell of both families; what they have in common stands there once."""
    parts = [courses[0].words]
    if len({course.words for course in courses}) > 1:
        parts = [f"{course.family}: {course.words}" for course in courses]
    times = [course.seconds for course in courses if course.seconds is not None]
    if times:
        parts[-1] += f" (after {max(times):.1f} s)"
    new = sorted({course.new for course in courses if course.new})
    if new:
        parts.append(f"next: {', '.join(new)}")
    return Cell("\n".join(parts), all(course.met for course in courses))


@dataclass
class Row:
    """One client of one service. A column that makes no sense for it is missing in `cells`."""

    service: str
    client: str
    tool: str
    cells: dict[str, Cell] = field(default_factory=dict)


@dataclass
class Result:
    """The whole matrix; seconds from the building of the lab to the last client's end."""

    scheduler: str
    rows: list[Row]
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return not self.missed

    @property
    def missed(self) -> list[str]:
        """Each cell that is not as it should be, in words."""
        return [
            f"{row.client}, {column}: {cell.seen}"
            for row in self.rows
            for column, cell in row.cells.items()
            if not cell.met
        ]

    def document(self) -> dict[str, Any]:
        """As plain types, for JSON."""
        return {"verdict": "pass" if self.passed else "fail", **asdict(self)}
