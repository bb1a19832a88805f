# SPDX-License-Identifier: Apache-2.0
"""Runs one check of one target periodically: an asyncio task that probes, waits and keeps the state.

Knows how a probe ends and when the next one is due; must not know who uses the state.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from xdpdirector.health.checks import CheckFailed, CheckImpossible, NoWay, Target
from xdpdirector.health.rise_fall import Health, HealthReport
from xdpdirector.model.checks import CheckSpec
from xdpdirector.model.status import Operational

START_SPREAD = 0.1
# Jitter, so that checks started together spread out: start up to this part of the interval early, never late.
# A dead backend is detected within fall x interval + timeout.
EARLY = 0.1
AGAIN_SOON = 0.2  # seconds until the next attempt, if the first one could not be made
CONFIRM_AFTER = 1.0  # seconds, at most, until a first failure that has to be confirmed is tried again
TELL_APART = 60.0  # seconds between two log lines about the same trouble, when it comes and goes

Try = Callable[[CheckSpec, Target], Awaitable[float | None]]

log = logging.getLogger(__name__)


def first_verdict_within(spec: CheckSpec, *, confirm: bool) -> float:
    """Seconds that a check which can be made takes, at most, from its start to its first verdict."""
    return spec.fall * (spec.timeout + CONFIRM_AFTER) if confirm else spec.timeout


class Watch:
    """`on_news(watch)` is called when the state changes, or the share of its weight that the backend
    requests.

    A probe has one of three results: success, failure, or it could not be made. `trouble`: why the last probe
    could not be made, if this director is the cause; `troubled_since`: when that began (monotonic). Then the
    state stays as it is.
    """

    def __init__(
        self,
        spec: CheckSpec,
        target: Target,
        on_news: Callable[[Watch], None],
        earlier: HealthReport | None,
        confirm: bool = False,
    ) -> None:
        """`confirm`: see `Health`."""
        self.spec, self.target = spec, target
        self._on_news = on_news
        self._health = Health(
            rise=spec.rise, fall=spec.fall, now=time.time(), earlier=earlier, confirm=confirm
        )
        self._share = earlier.share if earlier else 1.0
        self.trouble, self.troubled_since = "", 0.0
        self._told = "", 0.0
        self._asked = True
        self._report = self._known()

    def __str__(self) -> str:
        return f"{self.spec.type} check of {self.target}"

    def report(self) -> HealthReport:
        """The present state. Cached: read far more often than it changes."""
        return self._report

    def _known(self) -> HealthReport:
        report = self._health.report()
        return replace(report, reason=self.trouble or report.reason, share=self._share)

    async def run(self, attempt: Try, slots: asyncio.Semaphore) -> None:
        """Probe until cancelled. `slots` limits concurrent probes."""
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(random.uniform(0, min(START_SPREAD, self.spec.interval)))
        while True:
            async with slots:
                begun = clock()
                await self._once(attempt)
            due = begun + self._apart() * random.uniform(1 - EARLY, 1)
            await asyncio.sleep(max(0.0, due - clock()))

    def _apart(self) -> float:
        """Seconds from one attempt to the next: a first verdict is wanted soon."""
        if self._report.operational is not Operational.UNKNOWN:
            return self.spec.interval
        return min(self.spec.interval, CONFIRM_AFTER if self._asked else AGAIN_SOON)

    async def _once(self, attempt: Try) -> None:
        """One probe, and the processing of its result."""
        trouble = ""
        self._asked = False
        try:
            share = await attempt(self.spec, self.target)
        except CheckFailed as failure:
            self._asked = True
            self._observe(False, str(failure), self._share)
        except NoWay:
            pass  # the path reports its own state
        except CheckImpossible as reason:
            trouble = str(reason)
        except Exception as error:  # a bug in a check must not remove backends from service
            what = f"{type(error).__name__}: {error}"
            trouble = f"the {self.spec.type} check itself is at fault, please report it ({what})"
            log.debug("%s", self, exc_info=True)
        else:
            self._asked = True
            self._observe(True, "", 1.0 if share is None else share)
        if trouble and trouble != self.trouble:
            self._tell(trouble)
        if trouble and not self.trouble:
            self.troubled_since = time.monotonic()
        if trouble or self.trouble:
            self.trouble = trouble
            self._report = self._known()

    def _tell(self, trouble: str) -> None:
        """Log, with a minimum interval: an overloaded director may fail at every other probe."""
        what, when = self._told
        if trouble != what or time.monotonic() > when + TELL_APART:
            self._told = trouble, time.monotonic()
            log.warning("%s: %s; its verdict stays", self, trouble)

    def _observe(self, ok: bool, reason: str, share: float) -> None:
        transition = self._health.observe(ok, reason, time.time())
        before, self._share = self._share, share
        self._report = self._known()
        if transition or before != share:
            self._on_news(self)
