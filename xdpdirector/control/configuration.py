# SPDX-License-Identifier: Apache-2.0
"""The configuration as one document: shown, planned, replaced, rolled back, reloaded from its file.

All but the services (interfaces, sizes ...) is fixed while the daemon runs; the deny list is changed by
`guard_controller`. Knows the desired state and revisions; nothing of files or HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from xdpdirector.config.json_pointer import pointer
from xdpdirector.control.desired_state import EVERYTHING, DesiredState, Edit
from xdpdirector.control.preview import compared, running
from xdpdirector.dataplane.interface import Plane
from xdpdirector.errors import ConflictError, DirectorError, NotFoundError
from xdpdirector.model import Configuration, Key
from xdpdirector.model.guard import GuardSpec
from xdpdirector.state import check_ports, edits
from xdpdirector.state.change_request import Intent
from xdpdirector.state.diff import (
    Affected,
    Plan,
    RevisionView,
    affected,
    differences,
)
from xdpdirector.state.drains import Drains
from xdpdirector.state.edits import Services
from xdpdirector.state.file_merge import MergeContext, keep_admin, merge_file
from xdpdirector.state.revisions import History, Revision, Summary

FIXED = tuple(name for name in Configuration.model_fields if name not in ("services", "guard"))


@dataclass(frozen=True)
class InitialState:
    """What a daemon starts with. `takes_in`: the file was merged, and this is to be stored; `is_new`: the file
    differs from the one that was merged last; `refusal`: why the file could not be merged."""

    services: Services
    leaving: frozenset[Key] = frozenset()
    takes_in: bool = False
    is_new: bool = False
    refusal: str = ""


def initial_state(history: History, configuration: Configuration, digest: str, plane: Plane) -> InitialState:
    """By the rule of `ConfigurationService.reload`. A file that cannot be merged does not keep the
    daemon from serving the stored services. A service that the data plane does not hold, as after a boot, has no
    connections to lose."""
    stored, file = history.latest(), configuration.services
    if stored is None:
        return InitialState(file, takes_in=True, is_new=True)
    if stored.file_digest == digest:
        return InitialState(stored.services, takes_in=history.file() is None)
    leaving = frozenset(key for key, drain in history.drains().items() if drain.leaves)
    held = plane.services()
    try:
        merged = merge_file(
            stored.services, file, merge_context(history, stored, plane, stored.services, leaving)
        )
        before = {name: spec for name, spec in stored.services.items() if name in held}
        asking = check_ports.all_kept(stored.services, merged.services)
        services = edits.replace_all(before, asking)
    except DirectorError as error:
        return InitialState(stored.services, refusal=error.detail)
    return InitialState(services, merged.leaving, takes_in=True, is_new=True)


def merge_context(
    history: History, stored: Revision | None, plane: Plane, services: Services, leaving: Collection[Key]
) -> MergeContext:
    """What the merge of a file needs to know of the present state."""

    def busy(key: Key) -> str:
        count, unseen = running(plane, services[key[0]], key)
        if count:
            return f"has {count} connections"
        return (
            f"may have connections that '{services[key[0]].scheduler}' keeps no record of" if unseen else ""
        )

    return MergeContext(
        before=history.file(), names=stored.file_services if stored else (), leaving=leaving, busy=busy
    )


class ConfigurationService:
    """`base`: what the daemon was started with; its fixed parts count."""

    def __init__(self, desired: DesiredState, history: History, plane: Plane, base: Configuration) -> None:
        self._desired, self._history, self._plane, self._base = desired, history, plane, base
        self.warnings: tuple[str, ...] = ()
        """What differs between the file and the running daemon until a restart."""

    def document(self) -> Configuration:
        """The whole desired state as a document."""
        update = {"services": dict(self._desired.services), "guard": GuardSpec()}
        return self._base.model_copy(update=update)

    async def apply(self, wanted: Configuration, *, intent: Intent, dry_run: bool = False) -> Plan:
        """Make this all that is wanted; `dry_run`: only say what that would change. The admin state of a backend
        stays where the document does not state one. ConflictError for another value of what is fixed."""
        if wanted.guard.deny and wanted.guard != self._base.guard:
            raise ConflictError(
                "the deny list is not changed with the rest: use `PUT /v1/guard/deny`, or the configuration file",
                pointer=pointer("guard"),
            )
        changed = _fixed_differences(self._base, wanted)
        if changed:
            raise ConflictError(
                f"{', '.join(changed)} cannot change while the daemon runs: change the configuration file and "
                "restart the daemon; no packet is lost",
                pointer=pointer(changed[0]),
            )
        return await self._replace(
            lambda now: keep_admin(now, wanted.services), "replace the configuration", intent, dry_run
        )

    async def roll_back(self, number: int, *, intent: Intent, dry_run: bool = False) -> Plan:
        """Make the services of an earlier revision a new revision. NotFoundError when it is not kept."""
        services = self._kept(number).services
        return await self._replace(lambda now: services, f"roll back to revision {number}", intent, dry_run)

    async def reload(self, configuration: Configuration, digest: str) -> Plan:
        """Merge the file as it is now; changes made at run time stay, as at a start."""
        stored = self._history.latest()
        is_new = stored is None or stored.file_digest != digest
        leaving: frozenset[Key] = frozenset()

        def make(now: Services) -> Services:
            nonlocal leaving
            if not is_new:
                return now
            merged = merge_file(now, configuration.services, self._merge_context(stored))
            leaving = merged.leaving
            return merged.services

        def leave(drains: Drains) -> None:
            for key in leaving:
                drains.leave(key, self._plane.counts(key).active)

        plan = await self._replace(
            make,
            "read the configuration file again",
            Intent("file"),
            drain=leave,
            file=(digest, configuration.services) if is_new else None,
        )
        self._base = self._base.model_copy(update={"guard": configuration.guard})
        names = _fixed_differences(self._base, configuration)
        self.warnings = tuple(
            f"the configuration file has another value of '{name}': restart the daemon to use it"
            for name in names
        )
        return plan

    def _merge_context(self, stored: Revision | None) -> MergeContext:
        leaving = self._desired.drains.leaving()
        return merge_context(self._history, stored, self._plane, self._desired.services, leaving)

    def refuse_file(self, why: str) -> None:
        """Note that the file was read again and cannot be merged."""
        self.warnings = (f"the configuration file is not merged as it is now: {why}",)

    def summaries(self, *, before: int | None, limit: int) -> list[Summary]:
        """Revisions, the newest first; `before`: a number."""
        return self._history.summaries(before=before, limit=limit)

    def revision(self, number: int) -> RevisionView:
        """NotFoundError when it is not kept."""
        found, earlier = self._kept(number), self._history.revision(number - 1)
        changes = differences(earlier.services if earlier else {}, found.services)
        return RevisionView(
            revision=number,
            at=found.at,
            author=found.author,
            reason=found.reason,
            services=found.services,
            changes=changes if earlier or number == 1 else None,
        )

    def _kept(self, number: int) -> Revision:
        found = self._history.revision(number)
        if found is None:
            raise NotFoundError(
                f"there is no revision {number}, or it is not kept any more: `GET /v1/revisions` lists them"
            )
        return found

    async def _replace(
        self,
        make: Edit,
        what: str,
        intent: Intent,
        dry_run: bool = False,
        *,
        drain: Callable[[Drains], None] = lambda drains: None,
        file: tuple[str, Services] | None = None,
    ) -> Plan:
        if dry_run:
            found = await self._desired.dry_run(await self._made(make), intent, EVERYTHING)
            return Plan(
                dry_run=True,
                revision=self._desired.revision,
                changes=found.changes,
                affected=found.affected,
                missing=found.missing,
            )
        before = after = self._desired.services
        cut_off: tuple[Affected, ...] = ()

        def edit(now: Services) -> Services:
            nonlocal before, after, cut_off
            before, after = now, edits.replace_all(now, make(now))
            cut_off = affected(before, after, self._running)
            return after

        await self._desired.change(edit, what, intent, EVERYTHING, drain=drain, file=file)
        return Plan(
            dry_run=False,
            revision=self._desired.revision,
            changes=await compared(before, after),
            affected=cut_off,
        )

    async def _made(self, make: Edit) -> Edit:
        """The edit that replaces all, done beside the loop already: thousands of services are compared. It is done
        again where something was changed meanwhile, or where it fails: then whoever tries it gets the error."""
        before = self._desired.services

        def edit(now: Services) -> Services:
            return edits.replace_all(now, make(now))

        try:
            made = await asyncio.to_thread(edit, before)
        except DirectorError:
            return edit
        return lambda now: made if now is before else edit(now)

    def _running(self, key: Key) -> tuple[int, bool]:
        """See `xdpdirector.state.diff.Running`."""
        return running(self._plane, self._desired.services[key[0]], key)


def _fixed_differences(before: Configuration, after: Configuration) -> list[str]:
    return [name for name in FIXED if getattr(before, name) != getattr(after, name)]
