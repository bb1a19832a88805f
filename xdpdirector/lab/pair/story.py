# SPDX-License-Identifier: Apache-2.0
"""What is done to a pair, step by step, and what is kept of each step. Does not know what the directors run on:
namespaces (`./lab pair`) or machines (`./lab vagrant --pair`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from xdpdirector.errors import DirectorError, TimedOutError
from xdpdirector.lab.pair.report import Seen

INTERVAL = 0.2  # seconds: two scans, before the peer has merged what they found
Refused = dict[str, dict[str, int]]


class Directors(Protocol):
    """Two directors; the first one has the higher priority, and is active when a step ends. Each act returns when
    the VIPs stand where they belong, and raises DirectorError if they do not."""

    died: float | None
    """When the first one was killed, by `now`; set by `kill`."""

    def now(self) -> float:
        """Seconds, of the clock that the clients' records have."""

    def lag(self) -> float:
        """Seconds until the second one has merged what a scan of the first one found."""

    def refused(self) -> Refused:
        """Packets that each director dropped or answered itself, by reason; of those that say it."""

    def stood_still(self) -> float:
        """Seconds: the longest time, since this was asked before, in which a machine did nothing at all."""

    def kill(self) -> None: ...

    def come_back(self) -> None: ...

    def hand_over(self) -> None: ...

    def hand_back(self) -> None: ...

    def restart(self) -> None: ...

    def upgrade(self) -> None: ...


class Story:
    """`watch`: seconds that each step is watched after its act; `seen`: what was, so far."""

    def __init__(self, directors: Directors, say: Callable[[str], None], watch: float) -> None:
        self._directors, self._say, self._watch = directors, say, watch
        self.seen: list[Seen] = []

    def baseline(self) -> None:
        self._tell("baseline", "both directors run", lambda: None)

    def cycle(self, *, upgrades: bool) -> None:
        directors = self._directors
        self._tell("kill", "the active director dies: no link, no process, no word", directors.kill)
        self._tell(
            "return",
            "it comes back with an empty table, and takes over when it has all connections",
            directors.come_back,
        )
        self._tell(
            "hand over", "its keepalived is stopped: the other director takes over", directors.hand_over
        )
        self._tell("hand back", "and started again", directors.hand_back)
        if not upgrades:
            return
        self._tell("restart", "the daemon of the active director is stopped and started", directors.restart)
        self._tell("upgrade", "both get another program and other maps, the standby first", directors.upgrade)

    def _tell(self, name: str, title: str, act: Callable[[], None]) -> None:
        self._say(f"{name}: {title}")
        directors = self._directors
        directors.died, interval = None, INTERVAL + directors.lag()
        refused = directors.refused()
        directors.stood_still()
        began = directors.now()
        trouble, late = "", False
        try:
            act()
        except (DirectorError, OSError) as error:
            trouble, late = str(error), isinstance(error, TimedOutError)
            self._say(f"  {name} went wrong: {error}")
        time.sleep(self._watch)
        ended = directors.now()
        more = grown(refused, directors.refused())
        still = directors.stood_still()
        self.seen.append(
            Seen(name, title, began, ended, trouble, late, directors.died, interval, more, still)
        )


def grown(before: Refused, after: Refused) -> Refused:
    """What was counted meanwhile; a program that was loaded anew counts from 0."""
    found = {}
    for name, counts in after.items():
        earlier = before.get(name, {})
        by = {reason: count - earlier.get(reason, 0) for reason, count in counts.items()}
        if any(each < 0 for each in by.values()):
            by = dict(counts)
        if more := {reason: count for reason, count in by.items() if count}:
            found[name] = more
    return found


def refused_of(verdicts: dict[str, int]) -> dict[str, int]:
    """Of the verdicts of /v1/stats, those of packets that went to no backend."""
    return {reason: count for reason, count in verdicts.items() if reason.startswith(("drop_", "reject_"))}
