# SPDX-License-Identifier: Apache-2.0
"""The desired state: the services, the revision and the drains, changed by one change at a time.

`DesiredState.change` checks a change and makes the revision of it; `transaction` brings it to the data plane and
has it stored, all of it or nothing. Does not write to the data plane itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from xdpdirector.config.json_pointer import pointer
from xdpdirector.control.preview import dry_run_result
from xdpdirector.control.reconciler import Reconciler
from xdpdirector.dataplane.interface import Plane
from xdpdirector.errors import DamagedStoreError, StoreError, SupersededError
from xdpdirector.model import AdminState, Configuration, Key
from xdpdirector.state import edits, etag
from xdpdirector.state.change_events import change_events
from xdpdirector.state.change_request import Intent
from xdpdirector.state.drains import Drains
from xdpdirector.state.dry_run import DryRunError
from xdpdirector.state.edits import Services
from xdpdirector.state.revisions import History, Revision, RevisionDraft, SharedHistory
from xdpdirector.system.threads import to_its_end

log = logging.getLogger(__name__)

Edit = Callable[[Services], Services]
MOST_TRIES = 100  # of a change that other directors' changes overtake


@dataclass(frozen=True)
class Target:
    """What is changed: all, a service, or a backend."""

    service: str | None = None
    backend: str | None = None

    @property
    def name(self) -> str:
        if self.service is None:
            return "the configuration"
        if self.backend is None:
            return f"service '{self.service}'"
        return f"backend '{self.service}/{self.backend}'"

    @property
    def pointer(self) -> str:
        """JSON pointer to the target in the configuration."""
        here = pointer("services", self.service) if self.service is not None else ""
        return here + (pointer("backends", self.backend) if self.backend is not None else "")


EVERYTHING = Target()


class DesiredState:
    """`revision`: the number of the revision that is wanted now; `drains`: the drains under way. Only `change`
    replaces them."""

    def __init__(
        self,
        reconciler: Reconciler,
        plane: Plane,
        history: History,
        base: Configuration,
        revision: int,
        shared: SharedHistory | None = None,
    ) -> None:
        """`base`: the parts of the configuration beside the services; they do not change. `shared`: the history,
        when other directors write it, too."""
        self._shared = shared
        latest = shared.latest() if shared else None
        self._applied = _identity(latest) if latest else None
        """Number and time of the revision that is wanted now."""
        self.behind = ""
        """Why the newest revision of the fleet is not applied here; empty when it is."""
        self.revision, self.drains = revision, Drains()
        self.trouble = ""
        """Why no change can be stored; empty when changes can be stored."""
        self._reconciler, self._plane, self._history = reconciler, plane, history
        self._unstored: tuple[str, Services] | None = None
        self._drained: tuple[Services, Set[Key]] = {}, frozenset()
        self._checks = base.checks
        self._tags = etag.Tags()
        # What is fixed may differ between directors, and an ETag of one is good at all of them.
        self._fixed = "" if shared else base.model_dump_json(exclude={"services", "guard"})

    @property
    def services(self) -> Services:
        return self._reconciler.services

    def tag(self, target: Target = EVERYTHING) -> str | None:
        """The ETag of the target; None when the target does not exist."""
        if target.service is None:
            return etag.tag(self._fixed, self._tags.of_all(self.services))
        spec = self.services.get(target.service)
        if spec is None or target.backend is None:
            return None if spec is None else self._tags.of_service(target.service, spec)
        return etag.of_backend(spec.backends[target.backend]) if target.backend in spec.backends else None

    def warnings(self) -> list[str]:
        """A sentence for each problem of the store."""
        trouble = [f"changes are refused: {self.trouble}"] if self.trouble else []
        return [*trouble, *self._history.notes]

    def resume(self) -> None:
        """Continue the drains that the store knows. Takes long with thousands of services, before anybody asks."""
        self._tags = self._tags.following(self.services)
        self.drains = self._following(self.services, Drains(self._history.drains()))

    async def change(
        self,
        edit: Edit,
        what: str,
        intent: Intent,
        target: Target,
        *,
        document: Target | None = None,
        drain: Callable[[Drains], None] = lambda drains: None,
        file: tuple[str, Services] | None = None,
    ) -> None:
        """Apply `edit` to the services. An edit that returns its argument changes nothing and makes no revision.

        DryRunError when the intent is a dry run; StaleError when the target is not as the intent expects it.
        `document`: the target that the client's document describes, when it is another one; errors point into it.
        `drain` may begin a drain; `file`: the digest and the services of the configuration file that the change
        merges."""
        if intent.dry_run:
            raise await self.dry_run(edit, intent, target, document)
        for left in range(MOST_TRIES - 1, -1, -1):
            await self._ask_fleet()
            async with self._reconciler.lock:
                await self._follow_fleet()
                try:
                    await self._change(edit, what, intent, target, document, drain, file)
                    return
                except SupersededError:  # made again on what is wanted now, with all that the intent asks for
                    if not left:
                        raise
            await asyncio.sleep(random.uniform(0, 0.02))

    async def _change(
        self,
        edit: Edit,
        what: str,
        intent: Intent,
        target: Target,
        document: Target | None,
        drain: Callable[[Drains], None],
        file: tuple[str, Services] | None,
    ) -> None:
        """The lock is held."""
        before = self.services
        wanted = self.checked(edit, intent, target, document)
        if wanted is before and file is None:
            return
        drains = self.drains.copy()
        drain(drains)
        drains = self._following(wanted, drains)
        write = self._writing(wanted, what, intent, drains, file)

        def write_and_tag() -> tuple[Revision, etag.Tags]:
            return write(), self._tags.following(wanted)

        async def store() -> None:
            stored, self._tags = await to_its_end(write_and_tag)
            self._keep(stored, drains)

        news = partial(self._publish, before, wanted, intent.author, intent.because(what))
        with self._reconciler.events.behind(news):
            await self._reconciler.transactions.run(wanted, store)
        await self._reconciler.follow_vips()

    # What other directors change

    async def make_first(self, digest: str, file: Services) -> None:
        """Make the services that are wanted here the first revision of a fleet that has none yet; nothing when
        another director is quicker. `file`: the services of the configuration file, with its digest. StoreError."""
        async with self._reconciler.lock:
            if self._history.latest() is None:
                intent = Intent("file", "the configuration file")
                write = self._writing(self.services, "start", intent, self.drains, (digest, file))
                with suppress(SupersededError):
                    self._keep(await to_its_end(write), self.drains)

    async def _ask_fleet(self) -> None:
        """Before a change: what does the fleet want now? StoreError when that cannot be asked."""
        if self._shared is None:
            return
        try:
            self._shared.look()
            await to_its_end(self._shared.refresh)
        except StoreError as error:
            self.trouble = error.detail
            raise

    async def follow(self) -> None:
        """Apply what another director stored, as far as it is known here. Errors are in `behind`."""
        if self._shared is None or self._is_newest():
            return
        async with self._reconciler.lock:
            with suppress(StoreError):
                await self._follow_fleet()

    def _is_newest(self) -> bool:
        newest = self._shared.latest() if self._shared else None
        return newest is None or _identity(newest) == self._applied

    async def _follow_fleet(self) -> None:
        """The lock is held. StoreError when this director cannot do as the fleet wants: what it changed would be
        made of something else."""
        if self._shared is None or self._is_newest():
            return
        newest = self._shared.latest()
        assert newest
        before = self.services
        wanted = {
            name: before[name] if before.get(name) == spec else spec for name, spec in newest.services.items()
        }
        drains = self._following(wanted, Drains(self._shared.drains_now()))

        tags = await to_its_end(partial(self._tags.following, wanted))

        async def store() -> None:
            self._tags = tags
            self._keep(newest, drains)

        news = partial(self._publish, before, wanted, newest.author, newest.reason)
        try:
            with self._reconciler.events.behind(news):
                await self._reconciler.transactions.run(wanted, store)
        except Exception as error:
            if self._applied != _identity(newest):
                self.behind = f"revision {newest.id} of the fleet is not applied here: {error}"
                raise StoreError(self.behind) from error
            log.warning("revision %d is not in the data plane as a whole: %s", newest.id, error)
        self.behind = ""
        await self._reconciler.follow_vips()

    def checked(self, edit: Edit, intent: Intent, target: Target, document: Target | None = None) -> Services:
        """The services after `edit`, with all checks that need no data plane. The edit itself raises
        NotFoundError."""
        made, tag = document or target, self.tag(target)
        intent.require_new(made.name, self.tag(made))
        if tag is not None:
            replace(intent, only_new=False).require(target.name, tag)
        wanted, inside = edit(self.services), made.pointer
        if tag is None:
            intent.require_absent(target.name)
        edits.refuse_programs(wanted, self.services, self._checks, inside)
        self._reconciler.refuse_unreachable(wanted, self.services, inside)
        return wanted

    async def dry_run(
        self, edit: Edit, intent: Intent, target: Target, document: Target | None = None
    ) -> DryRunError:
        """What the edit would do. Raises the errors that the change would raise, CapacityError included."""
        before = self.services
        wanted = self.checked(edit, intent, target, document)
        await asyncio.sleep(0)  # let others run: both halves may take long
        self._reconciler.transactions.check(wanted)
        return await dry_run_result(
            self._plane, before, wanted, await self._reconciler.missing(before, wanted)
        )

    def is_in_file(self, service: str) -> bool:
        """Whether the configuration file that was merged last has the service."""
        latest = self._history.latest()
        return latest is not None and service in latest.file_services

    def take_in(self, digest: str, file: Services, leaving: Collection[Key] = ()) -> None:
        """See `xdpdirector.control.director.Director.take_in`."""
        for key in leaving:
            self.drains.leave(key, self._plane.counts(key).active)
        self._unstored = (digest, file)
        with self._noting_trouble():
            self._settle(self._storing_the_rest()())

    async def try_storing(self) -> None:
        """Check the store, and store what could not be stored before; `trouble` says what is wrong. A healthy store
        is not written to. A change under way checks the store itself, so this returns at once."""
        if self._reconciler.lock.locked():
            return
        async with self._reconciler.lock:
            with self._noting_trouble():
                self._settle(await to_its_end(self._storing_the_rest()))

    @contextmanager
    def _noting_trouble(self) -> Iterator[None]:
        before = self.trouble
        try:
            yield
        except StoreError as error:
            self.trouble = error.detail
            if self.trouble != before:
                log.error("changes cannot be stored: %s", error.detail)

    def _settle(self, stored: Revision | None) -> None:
        self.trouble = ""
        if stored:
            self._keep(stored, self.drains)
            self._unstored = None

    def _storing_the_rest(self) -> Callable[[], Revision | None]:
        """A function that checks the store and stores the rest. It waits for the disk: call it in another
        thread."""
        intent, write = Intent("file", "the configuration file changed"), None
        if self._unstored:
            write = self._writing(self.services, "start", intent, self.drains, self._unstored)

        def store() -> Revision | None:
            self._history.look()
            if self.trouble:
                self._history.try_writing()
            return write() if write else None

        return store

    def _writing(
        self,
        wanted: Services,
        what: str,
        intent: Intent,
        drains: Drains,
        file: tuple[str, Services] | None,
    ) -> Callable[[], Revision]:
        """A function that stores the revision. It waits for the disk: call it in another thread."""
        digest, said = file or (None, None)

        def write() -> Revision:
            try:
                if self.trouble:  # refuse what `warnings` says is refused
                    with suppress(DamagedStoreError):  # `append` handles it
                        self._history.look()
                return self._history.append(
                    RevisionDraft(
                        wanted,
                        author=intent.author,
                        reason=intent.because(what),
                        drains=drains.running(),
                        file_digest=digest,
                        file_services=said,
                        base=self.revision,
                    )
                )
            except StoreError as error:
                self.trouble = error.detail
                raise

        return write

    def _keep(self, stored: Revision, drains: Drains) -> None:
        self.revision, self.drains, self.trouble = stored.id, drains, ""
        self._applied = _identity(stored)

    def _following(self, wanted: Services, drains: Drains) -> Drains:
        """A drain runs exactly while the admin state of its backend is `drain`, whoever changed it."""
        draining = self._draining_in(wanted)
        for key in drains.running().keys() - draining:
            drains.end(key)
        for key in draining - drains.running().keys():
            drains.begin(key, self._plane.counts(key).active)
        return drains

    def _draining_in(self, wanted: Services) -> Set[Key]:
        """The backends whose admin state is `drain`. It looks only at services that differ from those of before."""
        before, found = self._drained
        touched = edits.touched(before, wanted)
        if touched:
            other = set(touched)
            found = {key for key in found if key[0] not in other} | {
                (name, key)
                for name in touched
                if name in wanted
                for key, backend in wanted[name].backends.items()
                if backend.admin is AdminState.DRAIN
            }
        self._drained = wanted, found
        return found

    def _publish(self, before: Services, after: Services, author: str, reason: str) -> None:
        log.info("revision %d by %s: %s", self.revision, author, reason)
        for kind, subject, text, data in change_events(before, after):
            self._reconciler.events.publish(
                kind, subject, text, **data, author=author, reason=reason, revision=self.revision
            )


def _identity(revision: Revision) -> tuple[int, datetime]:
    """Another history may have another revision of that number."""
    return revision.id, revision.at
