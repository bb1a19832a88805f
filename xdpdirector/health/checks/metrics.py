# SPDX-License-Identifier: Apache-2.0
"""Measures any probe: how often it tried, how often it failed, how long it took. Decides nothing by it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from xdpdirector.health.checks import CheckFailed, Dial, Probe, Target
from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec

KEPT = 3  # times the interval that a tally is kept after the last try


@dataclass
class Tally:
    """Of one type of check of one target, since it was first asked. `seconds`: of all tries together. `impossible`:
    of the tries, those that could not be made, whatever became of the backend."""

    type: str
    target: Target
    tries: int = 0
    failures: int = 0
    impossible: int = 0
    seconds: float = 0.0
    gone_at: float = 0.0


class Measured:
    """A Probe. `on_failure` gets the address of the backend that failed."""

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
        """Of what is being checked; what nobody asked for a while is forgotten."""
        now = time.monotonic()
        self._tallies = {key: tally for key, tally in self._tallies.items() if tally.gone_at > now}
        return list(self._tallies.values())
