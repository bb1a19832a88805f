# SPDX-License-Identifier: Apache-2.0
"""What is known of the directors that share a desired state: types for status, API and metrics."""

from __future__ import annotations

from pydantic import Field

from xdpdirector.model.fields import Frozen


class DirectorReport(Frozen):
    """What a director says of itself. `revision`: of the desired state, that its data plane has. `denied`: how many
    changes of the deny list it has. `drains`: by
    `service/backend`, how many connections a draining backend has there; `unsettled`: those that may have more."""

    name: str
    id: str = Field(default="", description="Another one after each start")
    version: str = ""
    revision: int = 0
    denied: int = Field(default=0, description="How many changes of the fleet's deny list it has")
    ready: bool = False
    why: str = Field(default="", description="Why it is not ready")
    drains: dict[str, int] = Field(default_factory=dict)
    unsettled: tuple[str, ...] = ()
    down: dict[str, tuple[str, ...]] | None = Field(
        default=None,
        description="What its own checks find down: by service/backend the VIPs; null when it does not tell",
    )
    undecided: tuple[str, ...] = Field(default=(), description="What its checks have no verdict on yet")
    apart: bool = Field(default=False, description="Whether it does not reach what most directors reach")

    def has_ended(self, backend: str) -> bool:
        """Whether nothing is left there of the connections of this draining backend."""
        return self.drains.get(backend) == 0 and backend not in self.unsettled


class StoreView(Frozen):
    """Where the desired state is kept. `reached`: whether it answered when it was asked last, and `why` it did not;
    `age`: for how many seconds what is shown may have changed there without this director knowing it."""

    type: str = "sqlite"
    endpoint: str = ""
    reached: bool = True
    why: str = ""
    age: float | None = Field(
        default=0.0, description="Seconds since the store answered; null when it has not since the start"
    )
