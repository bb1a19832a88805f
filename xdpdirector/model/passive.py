# SPDX-License-Identifier: Apache-2.0
"""Passive health: how a service's backends are judged by their clients' packets, and what was counted.

Knows numbers; nothing of services, packets or maps.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from xdpdirector.model.fields import NUMBER, REAL, DayAtMost, Flag, Frozen, key

WINDOW = 30.0
"""Seconds. A backend is judged by its connections in as long a time."""


class PassiveSpec(Frozen):
    """Counts SYNs of clients, those sent again, handshakes, resets and times for each backend, from TCP packets.

    A backend is `suspect` while the part of its connections whose SYN was sent again is surely above `share`, and
    above `factor` times that of its siblings. `eject`: a suspect keeps only `weight` of its weight (0: gets no new
    connections) for `trial_after`, then a tenth on trial; after a failed trial it waits twice as long.
    """

    eject: Flag = key(False, "Whether a suspect loses weight; else it is only shown.")
    weight: Annotated[float, Field(ge=0, le=0.9), REAL] = key(
        0.0, "The part of its weight that an ejected backend keeps; with 0 it gets no new connections."
    )
    at_most: Annotated[float, Field(gt=0, le=1), REAL] = key(
        0.5,
        "No backend is ejected if more than this part of the service's backends would be ejected, on trial or "
        "down. With 0.5, one of two or three.",
    )
    trial_after: DayAtMost = key(
        30.0,
        "How long a backend is ejected before its trial; twice as long after each failed trial, up to 16 times.",
    )
    connections: Annotated[int, Field(ge=5, le=1_000_000), NUMBER] = key(
        20, f"A backend with fewer new connections in {WINDOW:.0f} s is not judged.", "connections"
    )
    share: Annotated[float, Field(gt=0, lt=1), REAL] = key(
        0.1, "The part of its connections whose SYN must be sent again, at least, for it to be suspect."
    )
    factor: Annotated[float, Field(ge=1, le=100), REAL] = key(
        3.0, "How many times the part of its siblings its own must be, at least, for it to be suspect."
    )


class PassiveState(StrEnum):
    """What passive health says of a backend: see `xdpdirector.health.passive`."""

    NORMAL = "normal"
    SUSPECT = "suspect"
    EJECTED = "ejected"
    TRIAL = "trial"


class HandshakeTimes(Frozen):
    """Handshakes that took up to `at_most` seconds, and longer than the bucket before; null: any longer time."""

    at_most: float | None
    count: int


class PassiveCounts(Frozen):
    """Of a backend's clients, since it was added. `syns`: without retransmissions; `retransmitted`: how many of
    them were sent again, and `retransmissions`: how often in all. `handshakes`: first ACKs. `resets`: RSTs of
    clients before the end. `unanswered`: connections that timed out with nothing but SYNs; `idle`: established ones
    that timed out. `seconds`: from SYN to ACK, the sum of `times`. All from `handshakes` on are null with `mh` and
    `sh`, which keep no records."""

    syns: int = 0
    retransmissions: int = 0
    retransmitted: int = 0
    handshakes: int | None = None
    resets: int | None = None
    unanswered: int | None = None
    idle: int | None = None
    seconds: float | None = None
    times: tuple[HandshakeTimes, ...] | None = None


class PassiveView(PassiveCounts):
    """And how it is judged: `state` since `since`. In the last 30 s it had so many `connections`, of which the part
    `share` had to send its SYN again; `siblings`: the same part of the better half of its siblings. Null without
    connections."""

    state: PassiveState = PassiveState.NORMAL
    since: datetime | None = None
    connections: int = 0
    share: float | None = None
    siblings: float | None = None
