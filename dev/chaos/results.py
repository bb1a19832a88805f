# SPDX-License-Identifier: Apache-2.0
"""What became of each thing that was to be done. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from dev.chaos.schedule import Action

OK, REFUSED, SKIPPED, FAILED = "ok", "refused", "skipped", "failed"


@dataclass(frozen=True)
class Done:
    """`began`, `ended`: seconds of the monotonic clock. `refused`: the API said no, with its reason; `skipped`: not
    possible here; `failed`: it should have gone, and did not."""

    action: Action
    began: float
    ended: float
    outcome: str = OK
    detail: str = ""
