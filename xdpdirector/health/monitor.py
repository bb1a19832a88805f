# SPDX-License-Identifier: Apache-2.0
"""Runs the health checks, one asyncio task for each, on the loop that `set` is called on.

Services with an equal check of the same target share one task. A backend can have several targets, for
example one per VIP of its service; each has its own state. Reports changes only. Must not know services,
maps, or how the state is used.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from xdpdirector.health.checks import (
    CheckFailed,
    Probe,
    Target,
    registry,
    trust_store,
)
from xdpdirector.health.checks.dialer import PlainWays, RouteOf, Ways, attempt
from xdpdirector.health.rise_fall import HealthReport
from xdpdirector.health.runner import Watch
from xdpdirector.model import Address, Key
from xdpdirector.model.checks import CheckSpec
from xdpdirector.model.status import Operational
from xdpdirector.net.next_hop import Route
from xdpdirector.system.background_tasks import BackgroundTasks

OnChange = Callable[[Key, Operational, str], None]
Question = tuple[CheckSpec, Target]

NOTHING: Mapping[Address, HealthReport] = MappingProxyType({})
REASONS = 5  # most reasons that `notes` lists for checks that cannot be made
BLIND_AFTER = 10.0  # seconds without any possible check until the director reports that it is not ready
AT_ONCE = 512  # checks at a time: half of the 1,024 file descriptors that a process has at least

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Shared:
    """A running check, and the keys that use it."""

    watch: Watch
    task: asyncio.Task[None]
    keys: set[Key] = field(default_factory=set)


@dataclass(eq=False)
class _Checks:
    """The checks of one key. `reported`: what was last reported of each, or known at its start."""

    reported: dict[Question, tuple[Operational, float]]


def _nowhere(_address: object, _routed: bool = False, /) -> Route:
    return Route("off-link", why="no route is known")


class Monitor:
    """The running checks. `on_change` gets the key, `up` or `down` of one of its targets, and the failure as
    a sentence (empty for `up`); it is also called when an `up` target requests another share of its weight.

    It is called on the loop, never for a removed check, and its exceptions are logged and ignored.
    """

    def __init__(
        self,
        on_change: OnChange,
        route: RouteOf = _nowhere,
        *,
        probe: Probe = registry.probe,
        ways: Ways | None = None,
        at_once: int = AT_ONCE,
        blind_after: float = BLIND_AFTER,
        tasks: BackgroundTasks | None = None,
    ) -> None:
        """`route`: see `Ways.prepare`."""
        self._tasks = tasks or BackgroundTasks()
        self._on_change, self._route, self._probe = on_change, route, probe
        self._ways = ways or PlainWays()
        self._blind_after = blind_after
        self._slots = asyncio.Semaphore(at_once)
        self._shared: dict[Question, _Shared] = {}
        self._checks: dict[Key, _Checks] = {}
        self._asking: Counter[Target] = Counter()
        self._ending: set[asyncio.Task[None]] = set()

    def set(
        self,
        key: Key,
        spec: CheckSpec,
        targets: Sequence[Target],
        earlier: Mapping[Address, HealthReport] = NOTHING,
        *,
        confirm: bool = False,
    ) -> None:
        """Check these targets from now on, each with a different address. A new check starts at once.

        Checks that stay are not disturbed by others. If only the options of a check change, its state stays
        until the new check decides. Another target starts as `unknown`, or with the state in `earlier`, by
        the target's address. `confirm`: see `Health`; where the check runs already, it stays as it is.
        """
        questions = [(spec, target) for target in targets]
        before = list(self._checks[key].reported) if key in self._checks else []
        if before == questions:
            return
        known = {target: self._report((asked, target)) for asked, target in before}
        for question in questions:
            self._join(key, question, known.get(question[1]) or earlier.get(question[1].address), confirm)
        self._leave(key, [each for each in before if each not in questions])
        self._checks[key] = _Checks({question: _reportable(self._report(question)) for question in questions})

    def remove(self, key: Key) -> None:
        """Stop these checks; nothing happens if there are none."""
        if checks := self._checks.pop(key, None):
            self._leave(key, checks.reported)

    def reports(self, key: Key) -> dict[Address, HealthReport]:
        """The states by target address; empty if not checked. `since` is in seconds since the epoch."""
        checks = self._checks.get(key)
        return {question[1].address: self._report(question) for question in checks.reported} if checks else {}

    def _report(self, question: Question) -> HealthReport:
        return self._shared[question].watch.report()

    async def ask(self, spec: CheckSpec, target: Target) -> str:
        """Probe once, independent of running checks; returns why it failed, or an empty string.
        CheckImpossible."""
        self._asking[target] += 1
        try:
            async with self._slots:
                await self._attempt(spec, target)
        except CheckFailed as failure:
            return str(failure)
        finally:
            self._asking[target] -= 1
            self._forget_the_way(target)
        return ""

    def notes(self) -> list[str]:
        """One sentence for each thing that checks cannot test from here, and for each reason why they cannot
        be made."""
        reasons = sorted({each.watch.trouble for each in self._shared.values()} - {""})
        notes = [f"checks cannot be made, and verdicts stay as they were: {why}" for why in reasons]
        if len(notes) > REASONS:
            notes[REASONS:] = ["checks cannot be made for other reasons, too: each backend says its own"]
        return [*self._ways.notes(), *trust_store.notes(), *notes]

    def blind(self) -> str:
        """Why no check at all was possible for a while; empty if any is, or if there are none."""
        watches = [each.watch for each in self._shared.values()]
        if not watches or not all(watch.trouble for watch in watches):
            return ""
        since = max(watch.troubled_since for watch in watches)
        if time.monotonic() < since + self._blind_after:
            return ""
        return f"this director sees none of its backends: {watches[0].trouble}"

    async def close(self) -> None:
        """Stop all checks and wait until their sockets are closed."""
        for key in list(self._checks):
            self.remove(key)
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self._ways.close()

    def _join(self, key: Key, question: Question, earlier: HealthReport | None, confirm: bool) -> None:
        shared = self._shared.get(question)
        if shared is None:
            watch = Watch(*question, self._heard, earlier, confirm)
            task = self._tasks.start(str(watch), lambda: watch.run(self._attempt, self._slots))
            shared = self._shared[question] = _Shared(watch, task)
        shared.keys.add(key)

    def _leave(self, key: Key, questions: Collection[Question]) -> None:
        for question in questions:
            shared = self._shared[question]
            shared.keys.discard(key)
            if not shared.keys:
                del self._shared[question]
                shared.task.cancel()
                self._ending.add(shared.task)
                shared.task.add_done_callback(self._ending.discard)
                self._forget_the_way(question[1])

    def _forget_the_way(self, target: Target) -> None:
        """Release the path to a target, unless another check uses it."""
        if not self._asking[target] and not any(target == running for _, running in self._shared):
            del self._asking[target]
            self._ways.forget(target)

    async def _attempt(self, spec: CheckSpec, target: Target) -> float | None:
        return await attempt(spec, target, self._ways, self._route, self._probe)

    def _heard(self, watch: Watch) -> None:
        question = (watch.spec, watch.target)
        shared = self._shared.get(question)
        for key in list(shared.keys) if shared and shared.watch is watch else ():
            if key in self._checks:
                self._report_change(key, self._checks[key], question)

    def _report_change(self, key: Key, checks: _Checks, question: Question) -> None:
        report = self._report(question)
        if checks.reported[question] == _reportable(report):
            return
        checks.reported[question] = _reportable(report)
        try:
            self._on_change(key, report.operational, report.reason)
        except Exception:
            log.exception("check %s/%s: %s could not be announced", *key, report.operational)


def _reportable(report: HealthReport) -> tuple[Operational, float]:
    return report.operational, report.share
