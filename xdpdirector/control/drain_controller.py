# SPDX-License-Identifier: Apache-2.0
"""Changes of admin states, and the drains that follow: begun, watched, waited for, ended by their deadline.

Also removes backends that wait for their last connection. Counts come from the data plane; the state of drains is
in `xdpdirector.state.drains`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from xdpdirector.control.desired_state import EVERYTHING, DesiredState, Target
from xdpdirector.control.events import Events
from xdpdirector.control.fleet_follower import FleetFollower
from xdpdirector.dataplane.interface import Plane
from xdpdirector.errors import ConflictError, DirectorError, TimedOutError, UnreachableError
from xdpdirector.model import AdminState, Key
from xdpdirector.model.labels import Selector
from xdpdirector.model.status import BackendView, ConnectionCounts, DrainView, Operational
from xdpdirector.state import edits
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.change_request import Intent
from xdpdirector.state.drain_estimate import Progress, Sample
from xdpdirector.state.drains import Drains, announced, busy, still_busy
from xdpdirector.state.edits import Services
from xdpdirector.system import boot_time

LOOK_APART = 0.1  # seconds between two checks while a caller waits for a drain

log = logging.getLogger(__name__)


class _OvertakenError(Exception):
    """What was to be done is done, or need not be."""


class DrainController:
    """`look` returns the present view of a backend."""

    def __init__(
        self, desired: DesiredState, plane: Plane, events: Events, look: Callable[[str, str], BackendView]
    ) -> None:
        self._desired, self._plane, self._events, self._look = desired, plane, events, look
        self._progress: dict[Key, Progress] = {}
        self._stopping = False
        self._fleet: FleetFollower | None = None

    def join(self, fleet: FleetFollower) -> None:
        """A backend is drained when it is so at all directors of the fleet."""
        self._fleet = fleet

    def view(self, key: Key, counts: ConnectionCounts) -> DrainView | None:
        """The drain of a backend; None when it is not draining."""
        drain = self._desired.drains.get(key)
        if drain is None:
            return None
        progress = self._progress.setdefault(key, Progress())
        view = drain.view(counts.active, self._plane.is_settled(key[0]), progress, boot_time.now())
        if self._fleet is None:
            return view
        return view.model_copy(
            update={
                "elsewhere": self._fleet.left_elsewhere(key),
                "settled": view.settled and self._fleet.has_ended_elsewhere(key),
            }
        )

    def watch(self) -> None:
        """Sample each drain; to be called every second."""
        running = self._desired.drains.running()
        self._progress = {key: seen for key, seen in self._progress.items() if key in running}
        for key, traffic in self._plane.traffic(running).items():
            sample = Sample(time.monotonic(), self._plane.counts(key).active, traffic.packets)
            self._progress.setdefault(key, Progress()).see(sample)

    def drained(self) -> set[Key]:
        """The draining backends that have no connection left."""
        views = [self._look(*key) for key in self._desired.drains.running()]
        return {(view.service, view.name) for view in views if view.operational is Operational.DRAINED}

    def stop_waiting(self) -> None:
        """Callers that wait get an UnreachableError."""
        self._stopping = True

    async def set_admin(
        self,
        service: str,
        name: str,
        change: AdminChange,
        *,
        intent: Intent,
    ) -> BackendView:
        key = (service, name)

        def edit(now: Services) -> Services:
            return edits.patch_backend(now, service, name, {"admin": change.admin})

        def drain(drains: Drains) -> None:
            if change.admin is AdminState.DRAIN:
                drains.begin(key, self._plane.counts(key).active, change)

        intent = replace(intent, reason=intent.reason or change.reason)
        await self._desired.change(
            edit, f"{change.admin} {service}/{name}", intent, Target(*key), drain=drain
        )
        view = self._look(*key)
        if change.admin is AdminState.DRAIN:
            self._events.publish("backend.drain", "/".join(key), announced(view))
        return view

    async def set_admin_of(
        self,
        selector: Selector,
        change: AdminChange,
        *,
        intent: Intent,
    ) -> list[BackendView]:
        """Of all backends with these labels, as one change; NotFoundError when there is none."""
        chosen: list[Key] = []

        def edit(now: Services) -> Services:
            chosen[:] = edits.labelled(now, selector)
            return edits.set_admin(now, chosen, change.admin)

        def drain(drains: Drains) -> None:
            for key in chosen if change.admin is AdminState.DRAIN else ():
                drains.begin(key, self._plane.counts(key).active, change)

        intent = replace(intent, reason=intent.reason or change.reason)
        await self._desired.change(edit, f"{change.admin} by labels", intent, EVERYTHING, drain=drain)
        views = [self._look(*key) for key in chosen]
        for view in views if change.admin is AdminState.DRAIN else ():
            self._events.publish("backend.drain", f"{view.service}/{view.name}", announced(view))
        return views

    async def wait_drained(self, service: str, name: str, timeout: float) -> BackendView:
        """Wait until a backend is drained. TimedOutError says how many connections are left; ConflictError when it
        is not draining; UnreachableError when the daemon stops."""
        until = time.monotonic() + timeout
        while (view := self._look(service, name)).operational is not Operational.DRAINED:
            if view.admin is not AdminState.DRAIN:
                raise ConflictError(
                    f"backend '{service}/{name}' is {view.admin}, not draining: drain it first"
                )
            if self._stopping:
                raise UnreachableError(
                    f"the daemon is stopping; backend '{service}/{name}' goes on draining: ask again when it runs"
                )
            if time.monotonic() >= until:
                raise TimedOutError(still_busy(view))
            await asyncio.sleep(LOOK_APART)
        return view

    async def delete_backend(
        self, service: str, name: str, *, force: bool = False, drain: float | None = None, intent: Intent
    ) -> None:
        """`drain`: seconds to wait for its connections first; TimedOutError leaves it draining."""
        if drain is not None and not intent.dry_run:
            removal = AdminChange(AdminState.DRAIN, reason="to be removed")
            await self.set_admin(service, name, removal, intent=intent)
            await self.wait_drained(service, name, drain)
            intent = Intent(intent.author, intent.reason)  # its ETag has changed: it drains

        def edit(now: Services) -> Services:
            edits.find_backend(now, service, name)
            settled = self._plane.is_settled(service)
            running = busy(self._look(service, name), now[service], settled=settled)
            drains_first = intent.dry_run and drain is not None
            if running and not force and not drains_first:
                raise ConflictError(
                    f"backend '{service}/{name}' {running}: drain it first, or say drain=60s to wait for them, "
                    "or force=true to cut them off"
                )
            return edits.delete_backend(now, service, name)

        await self._desired.change(edit, f"delete {service}/{name}", intent, Target(service, name))

    async def remove_drained(self) -> None:
        """Remove the drained backends that the configuration file no longer has."""
        for key in self._desired.drains.leaving():
            try:
                if self._look(*key).operational is Operational.DRAINED:
                    what = f"drained: {'/'.join(key)}"
                    await self._desired.change(
                        partial(self._remove, key), what, Intent("director"), Target(*key)
                    )
            except _OvertakenError:
                pass  # another director does it
            except Exception as error:  # tried again in a second
                known = isinstance(error, DirectorError)
                log.warning("%s is not removed: %s", "/".join(key), error, exc_info=not known)

    def _remove(self, key: Key, now: Services) -> Services:
        """Remove a backend; and its service, when it was the last backend and the file no longer has the
        service."""
        if key not in self._desired.drains.leaving():
            raise _OvertakenError("it has come back, or another director removed it")
        service, left = key[0], edits.delete_backend(now, *key)
        if left[service].backends or self._desired.is_in_file(service):
            return left
        return edits.delete_service(left, service)

    async def cut_overdue(self) -> None:
        """Put backends into maintenance whose drain is past its deadline, with `on_deadline: cut`."""
        for key in self._desired.drains.due(boot_time.now()):
            try:
                left = self._look(*key).connections.active
                what = f"deadline of {'/'.join(key)}"
                await self._desired.change(partial(self._cut, key), what, Intent("director"), Target(*key))
                text = f"the drain's deadline has passed; connections that are cut: {left}"
                self._events.publish("backend.cut", "/".join(key), text, connections=left)
            except _OvertakenError:
                pass  # another director did it
            except Exception as error:  # tried again in a second
                known = isinstance(error, DirectorError)
                log.warning("%s is not cut off: %s", "/".join(key), error, exc_info=not known)

    def _cut(self, key: Key, now: Services) -> Services:
        if key not in self._desired.drains.due(boot_time.now()):
            raise _OvertakenError("its drain ended, or has another deadline now")
        if key in self._desired.drains.leaving():
            return self._remove(key, now)
        return edits.patch_backend(now, *key, {"admin": AdminState.MAINTENANCE})
