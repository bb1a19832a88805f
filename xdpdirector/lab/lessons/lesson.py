# SPDX-License-Identifier: Apache-2.0
"""What a lesson is: a lab that is built, and what must be true in it when its exercise is solved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdpdirector.errors import DirectorError
from xdpdirector.lab.configuration import HealthCheck
from xdpdirector.lab.lab import Lab

PATIENT = HealthCheck(
    interval=1.0, timeout=0.9, rise=1, fall=3
)  # takes no backend of a busy machine for a dead one


@dataclass(frozen=True)
class Check:
    """`holds` looks at the real state of the lab; what it cannot ask is missing."""

    sentence: str
    hint: str
    holds: Callable[[Lab], bool]

    def met(self, lab: Lab) -> bool:
        try:
            return self.holds(lab)
        except (DirectorError, LookupError, StopIteration, TypeError):
            return False


@dataclass(frozen=True)
class Lesson:
    """`build` is called when the hosts stand, with nginx on each backend."""

    title: str
    file: str  # in training/
    build: Callable[[Lab], None]
    checks: tuple[Check, ...]
    backends: int = 3
    directors: int = 1
    big_megabytes: int = 0  # of the file /big on each backend
