# SPDX-License-Identifier: Apache-2.0
"""A change of a backend's admin state: to what, why, and when a drain ends. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xdpdirector.model import AdminState


@dataclass(frozen=True)
class AdminChange:
    """`reason` is the drain's, and the revision's if the request has none. `deadline` (seconds from now) and
    `on_deadline` count for a drain only: at its deadline the connections left are kept, or cut."""

    admin: AdminState
    reason: str = ""
    deadline: float | None = None
    on_deadline: Literal["keep", "cut"] = "keep"


DRAIN = AdminChange(AdminState.DRAIN)
"""A drain without a deadline."""
