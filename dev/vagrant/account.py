# SPDX-License-Identifier: Apache-2.0
"""What was done, how long it took, and what was seen: said as it goes, and once more in the end. Text only."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Step:
    """`seconds` is None while it goes on, and for ever if it failed."""

    title: str
    seconds: float | None = None
    seen: list[str] = field(default_factory=list)


@dataclass
class Account:
    """`say` is told everything at once."""

    say: Callable[[str], None]
    steps: list[Step] = field(default_factory=list)
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def of(cls, seconds: Mapping[str, float], say: Callable[[str], None]) -> Account:
        """That goes on after steps which took so long."""
        return cls(say, [Step(title, taken) for title, taken in seconds.items()])

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        self.say(f"{title} ...")
        self.steps.append(Step(title))
        began = self.clock()
        yield
        self.steps[-1].seconds = self.clock() - began

    def see(self, text: str) -> None:
        """Something that the present step is to be remembered by."""
        self.say(f"  {text}")
        self.steps[-1].seen.append(text)

    def __str__(self) -> str:
        lines = []
        for step in self.steps:
            taken = f"{step.seconds:6.0f} s" if step.seconds is not None else "  FAILED"
            lines += [f"{taken}  {step.title}", *(f"          - {text}" for text in step.seen)]
        total = sum(step.seconds or 0 for step in self.steps)
        return "\n".join([*lines, f"{total:6.0f} s  in all"])
