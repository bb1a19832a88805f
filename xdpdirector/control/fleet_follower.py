# SPDX-License-Identifier: Apache-2.0
"""Keeps this director at what the fleet wants: when another director changed it, and when the store comes back.

Also merges the configuration file, once the store can be asked: the fleet's state counts, and of a file only what
changes in it. Knows the store by `xdpdirector.state.revisions.SharedHistory`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial

from xdpdirector.control.configuration import ConfigurationService
from xdpdirector.control.desired_state import DesiredState
from xdpdirector.control.events import Events
from xdpdirector.control.guard_controller import GuardController
from xdpdirector.errors import DirectorError, StoreError
from xdpdirector.model import Configuration, Key, ServiceSpec
from xdpdirector.model.fleet import DirectorReport, StoreView
from xdpdirector.state.revisions import SharedHistory
from xdpdirector.system.background_tasks import BackgroundTasks
from xdpdirector.system.threads import to_its_end

APPLIED_WITHIN = 1.0
"""Seconds that an answer to a change waits for other directors to have it, too."""
RETURN_WITHIN = 30.0
"""Seconds that a director is waited for that is not heard of any more, before a drain is done without it: its
packets need no daemon."""
SILENT_AFTER = 5.0
"""Seconds for which what other directors said last counts, when they cannot be heard."""
POLL_APART = 1.0
"""Seconds between two questions when nobody tells of a change: a watch may be cut without a sign."""

log = logging.getLogger(__name__)


class FleetFollower:
    """Of one director of a fleet."""

    def __init__(
        self,
        shared: SharedHistory,
        desired: DesiredState,
        configuration: ConfigurationService,
        events: Events,
        tasks: BackgroundTasks,
        report: Callable[[str], DirectorReport],
        guard: GuardController,
        hear: Callable[[DirectorReport, Mapping[str, DirectorReport]], None],
        obey: Callable[[], None],
    ) -> None:
        """`report`: what is said of this director, which has that name, to the others. `hear`: called with that and
        what the others say; with nobody, when nothing was heard for longer than a director lives. `obey`: called
        when a director may have been asked to leave, or to come back."""
        self._obey = obey
        self._hear, self._heard = hear, 0.0
        self._report = report
        self._reports: dict[str, DirectorReport] = {}
        self._id = uuid.uuid4().hex
        self._missed: dict[str, float] = {}
        """Who was heard of before, and until when it may come back."""
        self._shared, self._desired, self._configuration = shared, desired, configuration
        self._events, self._tasks, self._guard = events, tasks, guard
        self._file: tuple[Configuration, str] | None = None
        self._news = asyncio.Event()
        self._away_since: float | None = None
        self._unheard = ""
        """Why nothing can be said to the other directors; empty when it can."""
        self._behind = ""
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def name(self) -> str:
        """What the others call this director."""
        return self._shared.director

    def merge(self, configuration: Configuration, digest: str) -> None:
        """Merge the services of this file as soon as the store can be asked."""
        self._file = configuration, digest
        self._news.set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._news.set)

        self._shared.follow(tell)
        self._task = self._tasks.start("following the fleet's desired state", self._follow)

    async def close(self) -> None:
        """Ends what waits for the store."""
        self._closing = True
        await asyncio.to_thread(self._shared.close)
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Ask the store, and apply what is new."""
        try:
            await to_its_end(self._shared.refresh)
        except StoreError as error:
            self._note_absence(error.detail)
            self._note_silence()
            return
        self._note_presence()
        await self._desired.follow()
        await self._guard.follow()
        self._obey()
        self._note_behind()
        if self._file and not self._desired.behind:
            await self._merge_file(self._file)
        try:
            await self._exchange()
            self._unheard = ""
        except StoreError as error:
            if not self._unheard and not self._closing:
                log.warning("the directors of the fleet cannot be told of this one: %s", error.detail)
            self._unheard = error.detail
            self._note_silence()

    async def _exchange(self) -> None:
        report = self._own_report()
        reports = await to_its_end(partial(self._shared.exchange, report))
        now = time.monotonic()
        self._missed = {
            name: until for name, until in self._missed.items() if until > now and name not in reports
        }
        for name in self._reports.keys() - reports.keys():
            self._missed[name] = now + RETURN_WITHIN
            self._events.publish("fleet.left", name, "the director is not heard of any more")
        for name in reports.keys() - self._reports.keys() if self._reports else ():
            self._events.publish("fleet.joined", name, "the director is of the fleet")
        self._reports, self._heard = reports, now
        others = {name: each for name, each in reports.items() if each.id != self._id}
        self._hear(report, others)

    def _note_silence(self) -> None:
        """Who is not heard of for long has no say any more."""
        if time.monotonic() - self._heard > SILENT_AFTER:
            self._hear(self._own_report(), {})

    def reports(self) -> list[DirectorReport]:
        """What the live directors said last, by name; this one's is of now. Nobody is known while the store cannot
        be asked, but this one."""
        own = self._own_report()
        others = self._reports if self._shared.known().reached else {}
        return [report for _, report in sorted({**others, own.name: own}.items())]

    @property
    def position(self) -> tuple[int, int]:
        """What this director has: the revision, and how many changes of the deny list."""
        return self._desired.revision, self._guard.version

    async def applied(self) -> tuple[list[str], list[str]]:
        """The live directors that have what this one has, and those that have not said so within a second."""
        (revision, denied), until = self.position, time.monotonic() + APPLIED_WITHIN
        while True:
            try:
                reports = await asyncio.to_thread(self._shared.reports)
            except StoreError:
                return [self._shared.director], []
            reports.pop(self._shared.director, None)
            pending = sorted(
                name for name, each in reports.items() if each.revision < revision or each.denied < denied
            )
            if not pending or time.monotonic() > until:
                return sorted({self._shared.director, *reports} - {*pending}), pending
            await asyncio.sleep(APPLIED_WITHIN / 20)

    def store(self) -> StoreView:
        """How it is."""
        known = self._shared.known()
        age = None if known.age is None else round(known.age, 3)
        return StoreView(type="etcd", endpoint=known.endpoint, reached=known.reached, why=known.why, age=age)

    def left_elsewhere(self, key: Key) -> dict[str, int]:
        """How many connections a draining backend has at each other director that has some."""
        found = {report.name: report.drains.get("/".join(key), 0) for report in self._others()}
        return {name: count for name, count in found.items() if count}

    def has_ended_elsewhere(self, key: Key) -> bool:
        """Whether each other live director says that the draining backend has no connection there."""
        is_heard = self._shared.known().reached and not self._unheard and bool(self._reports)
        has_all = is_heard and not any(until > time.monotonic() for until in self._missed.values())
        return has_all and all(report.has_ended("/".join(key)) for report in self._others())

    def _own_report(self) -> DirectorReport:
        return self._report(self._shared.director).model_copy(update={"id": self._id})

    def _others(self) -> list[DirectorReport]:
        return [report for report in self._reports.values() if report.id != self._id]

    def _has_double(self) -> bool:
        return any(report.name == self._shared.director for report in self._others())

    def warnings(self) -> list[str]:
        """A sentence for what keeps this director from the fleet's state."""
        known = self._shared.known()
        if known.reached:
            silence = f"the other directors hear nothing of this one, nor it of them: {self._unheard}"
            double = (
                f"another director of the fleet has the name {self._shared.director}, too: see `store.name`"
            )
            return [*([silence] if self._unheard else []), *([double] if self._has_double() else [])]
        age = (
            "which was never seen since the start"
            if known.age is None
            else f"as it was {known.age:.0f} s ago"
        )
        return [f"what the fleet wants is known {age}: {known.why}"]

    async def _follow(self) -> None:
        while True:
            self._news.clear()
            await self.look()
            try:
                async with asyncio.timeout(POLL_APART):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _merge_file(self, file: tuple[Configuration, str]) -> None:
        (configuration, digest), latest = file, self._shared.latest()
        try:
            if latest is None:
                await self._desired.make_first(digest, configuration.services)
                return  # the next round sees whose it is
            if latest.file_digest is None:
                services: Mapping[str, ServiceSpec] = configuration.services
                await to_its_end(lambda: self._shared.note_file(digest, services))
            else:
                await self._configuration.reload(configuration, digest)
        except StoreError as error:
            log.debug("the configuration file is not merged yet: %s", error.detail)
            return
        except DirectorError as error:
            log.error("the configuration file is not merged: %s", error.detail)
            self._configuration.refuse_file(error.detail)
        if self._file is file:  # else another one came meanwhile
            self._file = None

    def _note_absence(self, why: str) -> None:
        if self._away_since is None and not self._closing:
            self._away_since = time.monotonic()
            text = f"the fleet's store cannot be asked, and no change is possible: {why}"
            self._events.publish("fleet.unreachable", "fleet", text)

    def _note_presence(self) -> None:
        if self._away_since is not None:
            away, self._away_since = time.monotonic() - self._away_since, None
            text = f"the fleet's store answers again, after {away:.0f} s"
            self._events.publish("fleet.reachable", "fleet", text)

    def _note_behind(self) -> None:
        now = self._desired.behind
        if now and now != self._behind:
            self._events.publish("fleet.behind", "director", now)
        self._behind = now
