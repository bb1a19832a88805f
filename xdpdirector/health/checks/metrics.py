# SPDX-License-Identifier: Apache-2.0
"""Counts probes, failures and durations of any probe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from xdpdirector.health.checks import CheckFailed, Dial, Probe, Target
from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec

KEPT = 3  # times the interval that a tally is kept after the last probe


@dataclass
class Tally:
    """Counts of one check type and target since its first probe. `seconds`: total duration. `impossible`:
    probes that could not be made, whatever the backend's state."""

    type: str
    target: Target
    tries: int = 0
    failures: int = 0
    impossible: int = 0
    seconds: float = 0.0
    gone_at: float = 0.0


class Measured:
    """A Probe that counts another one. `on_failure` gets the address of the backend that failed."""

    def __init__(self, probe: Probe, on_failure: Callable[[Address], None]) -> None:
        self._probe, self._on_failure = probe, on_failure
        self._tallies: dict[tuple[str, Target], Tally] = {}

    async def __call__(self, spec: CheckSpec, target: Target, dial: Dial) -> float | None:
        tally = self._tallies.setdefault((spec.type, target), Tally(spec.type, target))
        begun = time.monotonic()
        try:
            return await self._probe(spec, target, dial)
        except CheckFailed:
            tally.failures += 1
            self._on_failure(target.backend)
            raise
        except asyncio.CancelledError:
            raise
        except Exception:
            tally.impossible += 1
            raise
        finally:
            now = time.monotonic()
            tally.tries += 1
            tally.seconds += now - begun
            tally.gone_at = now + KEPT * spec.interval + spec.timeout

    def tallies(self) -> list[Tally]:
        """The counts of present checks; those without a recent probe are dropped."""
        now = time.monotonic()
        self._tallies = {key: tally for key, tally in self._tallies.items() if tally.gone_at > now}
        return list(self._tallies.values())
