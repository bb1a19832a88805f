# SPDX-License-Identifier: Apache-2.0
"""What is known of the directors that share a desired state: types for status, API and metrics."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from xdpdirector.model.fields import Frozen


class DrainState(StrEnum):
    """Of a director. `enabled`: it takes part; `draining`: it is to leave, and traffic still comes to it;
    `drained`: none does, and it may be stopped."""

    ENABLED = "enabled"
    DRAINING = "draining"
    DRAINED = "drained"


class DirectorDrainReport(Frozen):
    """How far a director is that leaves for maintenance."""

    state: DrainState
    since: datetime = Field(description="Of the order that it obeys")
    flows: int = Field(description="Connections whose packets come through it, or that no peer holds")
    flows_at_start: int = Field(description="The most of them since it began")
    packets_per_second: float = 0.0
    obstacles: tuple[str, ...] = Field(default=(), description="What keeps it from being drained")


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
    drain: DirectorDrainReport | None = Field(
        default=None, description="How far it is, when it leaves for maintenance"
    )

    def has_ended(self, backend: str) -> bool:
        """Whether nothing is left there of the connections of this draining backend."""
        return self.drains.get(backend) == 0 and backend not in self.unsettled


class DirectorView(Frozen):
    """A director, as one may ask it to leave for maintenance and to come back. `state`, `flows` and what follows
    are what it said last; null, and empty, when it is not heard of."""

    name: str
    admin: Literal["enabled", "drain"] = Field(description="What is wanted of it")
    this: bool = Field(description="Whether it is the one that answers")
    live: bool = Field(description="Whether it is heard of")
    ready: bool = False
    why: str = Field(default="", description="Why it is not ready")
    state: DrainState | None = None
    since: datetime | None = Field(default=None, description="When it was asked to leave")
    author: str = Field(default="", description="Who asked it to leave")
    reason: str = ""
    flows: int | None = Field(default=None, description="How many are left at it")
    flows_at_start: int | None = None
    packets_per_second: float | None = None
    obstacles: tuple[str, ...] = Field(default=(), description="What keeps it from being drained")


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
