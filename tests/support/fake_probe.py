# SPDX-License-Identifier: Apache-2.0
"""A probe that fails where a test says so."""

from __future__ import annotations

from collections import Counter

from xdpdirector.health.checks import (
    CheckFailed,
    Dial,
    Target,
)
from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec


class FakeProbe:
    """A Probe for tests: fails where `failures` has a sentence for the address, else asks for the part of its
    weight in `shares`; counts what it was asked."""

    def __init__(self) -> None:
        self.failures: dict[Address, str] = {}
        self.shares: dict[Address, float] = {}
        self.asked: Counter[tuple[Address, int]] = Counter()

    async def __call__(self, spec: CheckSpec, target: Target, dial: Dial) -> float | None:
        self.asked[target.address, target.port] += 1
        if target.address in self.failures:
            raise CheckFailed(self.failures[target.address])
        return self.shares.get(target.address)
