# SPDX-License-Identifier: Apache-2.0
"""The director: what API and daemon talk to. Every change of the desired state goes through here, one at a time.

A change is validated, brought to the plane and stored, in that order; when a step fails, the plane is brought
back to what was. Knows wishes, revisions and drains; how the plane gets there is the reconciler's affair.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Literal, Protocol

from xdpdirector import edits, reporting
from xdpdirector.changes import happenings
from xdpdirector.drains import Drains, announced, busy, still_busy
from xdpdirector.edits import Services
from xdpdirector.errors import ConflictError, DirectorError, TimedOutError, UnreachableError
from xdpdirector.events import Events
from xdpdirector.lookout import Lookout
from xdpdirector.model import AdminState, BackendSpec, ServiceSpec
from xdpdirector.plane import Plane
from xdpdirector.reconciler import Reconciler
from xdpdirector.store import Revision
from xdpdirector.views import BackendView, ConnectionView, Operational, Readiness, ServiceView, Statistics

LOOK_APART = 0.1  # seconds between two looks of somebody who waits for a drain
DEADLINES_APART = 1.0

log = logging.getLogger(__name__)


class History(Protocol):
    """Where desired state is kept; a DirectorError when it cannot be."""

    def append(
        self,
        services: Services,
        *,
        author: str,
        reason: str,
        file_digest: str | None = None,
        file_services: Collection[str] = (),
    ) -> Revision: ...


class Director:
    """Satisfies `xdpdirector.api.protocol.Control`."""

    def __init__(
        self,
        reconciler: Reconciler,
        plane: Plane,
        history: History,
        revision: int,
        *,
        interfaces: Collection[str] = (),
    ) -> None:
        """`interfaces` are those that shall carry the packet program."""
        self._reconciler, self._plane, self._history = reconciler, plane, history
        self._revision, self._interfaces = revision, interfaces
        self._drains = Drains()
        self._lookout = Lookout(reconciler.events)
        self._stopping = False
        self._deadlines: asyncio.Task[None] | None = None

    @property
    def events(self) -> Events:
        """What happens, to be followed."""
        return self._reconciler.events

    @property
    def _services(self) -> Services:
        return self._reconciler.services

    async def start(self, *, strict: bool = False, ready: Callable[[], None] = lambda: None) -> None:
        """Bring the plane to what is wanted, and keep it there. `strict`, `ready`: see `Reconciler.start`.

        Drains go on, but from now, and without deadline: those are not stored.
        """
        await self._reconciler.start(strict=strict, ready=ready)
        self._follow_drains()
        self._deadlines = asyncio.create_task(self._keep_deadlines())

    def take_in(self, file_digest: str, file_services: frozenset[str]) -> None:
        """Store that the configuration file, as it is now, has become part of what is wanted."""
        self._revision = self._history.append(
            self._services,
            author="file",
            reason="the configuration file changed",
            file_digest=file_digest,
            file_services=file_services,
        ).id

    def stop_waiting(self) -> None:
        """The end is near: whoever waits for a drain gets an UnreachableError now, and events end."""
        self._stopping = True
        self.events.close()

    async def close(self) -> None:
        """Stop watching; the plane stays as it is."""
        if self._deadlines:
            self._deadlines.cancel()
            await asyncio.gather(self._deadlines, return_exceptions=True)
        await self._reconciler.close()

    # Reading

    def services(self) -> list[ServiceView]:
        return [self.service(name) for name in self._services]

    def service(self, name: str) -> ServiceView:
        spec = edits.find_service(self._services, name)
        return reporting.service_view(name, spec, tuple(self.backend(name, key) for key in spec.backends))

    def backend(self, service: str, name: str) -> BackendView:
        spec = edits.find_backend(self._services, service, name)
        key = (service, name)
        standing, since = self._reconciler.standing(key), self._reconciler.since(key)
        return reporting.backend_view(key, spec, standing, self._drains.get(key), since, self._plane)

    def connections(
        self, *, service: str | None, backend: str | None, client: str | None, limit: int
    ) -> list[ConnectionView]:
        return self._plane.connections(service=service, backend=backend, client=client, limit=limit)

    def statistics(self) -> Statistics:
        views = self.services()
        return Statistics(
            verdicts=self._plane.verdicts(),
            services={view.name: view.traffic for view in views},
            backends={view.name: {b.name: b.traffic for b in view.backends} for view in views},
            attachments=self._plane.attachments(),
            connections=self._plane.total_connections(),
            drift_repaired=self._reconciler.drift_repaired,
        )

    def readiness(self) -> Readiness:
        problems = [*self._reconciler.problems(), *self._unattached()]
        return Readiness(ready=not problems, problems=tuple(problems), revision=self._revision)

    def _unattached(self) -> list[str]:
        """Somebody took the program off, or the interface went away and another one has its name now."""
        carrying = {found.interface for found in self._plane.attachments()} if self._interfaces else set()
        return [
            f"interface {name} does not carry the packet program: attach it with `xdpdirector load`"
            for name in self._interfaces
            if name not in carrying
        ]

    # Writing

    async def create_service(self, name: str, spec: ServiceSpec, *, author: str) -> ServiceView:
        await self._change(lambda now: edits.create_service(now, name, spec), name, author, f"create {name}")
        return self.service(name)

    async def replace_service(self, name: str, spec: ServiceSpec, *, author: str) -> ServiceView:
        await self._change(
            lambda now: edits.replace_service(now, name, spec), name, author, f"replace {name}"
        )
        return self.service(name)

    async def patch_service(self, name: str, patch: dict[str, Any], *, author: str) -> ServiceView:
        await self._change(lambda now: edits.patch_service(now, name, patch), name, author, f"patch {name}")
        return self.service(name)

    async def delete_service(self, name: str, *, author: str) -> None:
        await self._change(lambda now: edits.delete_service(now, name), name, author, f"delete {name}")

    async def create_backend(self, service: str, name: str, spec: BackendSpec, *, author: str) -> BackendView:
        def edit(now: Services) -> Services:
            return edits.create_backend(now, service, name, spec)

        await self._change(edit, service, author, f"create {service}/{name}", backend=name)
        return self.backend(service, name)

    async def patch_backend(
        self, service: str, name: str, patch: dict[str, Any], *, author: str
    ) -> BackendView:
        def edit(now: Services) -> Services:
            return edits.patch_backend(now, service, name, patch)

        await self._change(edit, service, author, f"patch {service}/{name}", backend=name)
        return self.backend(service, name)

    async def delete_backend(
        self, service: str, name: str, *, force: bool = False, drain: float | None = None, author: str
    ) -> None:
        """`drain`: seconds to wait for its connections first; TimedOutError leaves it draining."""
        if drain is not None:
            await self.set_admin(service, name, AdminState.DRAIN, reason="to be removed", author=author)
            await self.wait_drained(service, name, drain)

        def edit(now: Services) -> Services:
            running = busy(self.backend(service, name), now[service].scheduler)
            if running and not force:
                raise ConflictError(
                    f"backend '{service}/{name}' {running}: drain it first, or say drain=60s to wait for them, "
                    "or force=true to cut them off"
                )
            return edits.delete_backend(now, service, name)

        await self._change(edit, service, author, f"delete {service}/{name}")

    async def set_admin(
        self,
        service: str,
        name: str,
        admin: AdminState,
        *,
        reason: str = "",
        deadline: float | None = None,
        on_deadline: Literal["keep", "cut"] = "keep",
        author: str,
    ) -> BackendView:
        why = f"{admin} {service}/{name}" + (f": {reason}" if reason else "")

        def edit(now: Services) -> Services:
            return edits.patch_backend(now, service, name, {"admin": admin})

        await self._change(edit, service, author, why)
        if admin is AdminState.DRAIN:
            key, left = (service, name), self.backend(service, name).connections.active
            self._drains.begin(key, left, reason=reason, deadline=deadline, on_deadline=on_deadline)
            self.events.publish("backend.drain", "/".join(key), announced(self.backend(*key)))
        return self.backend(service, name)

    async def wait_drained(self, service: str, name: str, timeout: float) -> BackendView:
        """TimedOutError says how many connections are left; ConflictError when nobody drains it;
        UnreachableError when the daemon ends."""
        until = time.monotonic() + timeout
        while (view := self.backend(service, name)).operational is not Operational.DRAINED:
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

    async def cut_overdue(self) -> None:
        """Put the backends into maintenance whose drain is past its deadline and shall be cut then."""
        for service, name in self._drains.due(reporting.now()):
            try:
                left = self.backend(service, name).connections.active
                await self._change(
                    partial(self._cut, service, name), service, "director", f"deadline of {service}/{name}"
                )
                text = f"the drain's deadline has passed; connections that are cut: {left}"
                self.events.publish("backend.cut", f"{service}/{name}", text, connections=left)
            except Exception as error:  # tried again in a second
                known = isinstance(error, DirectorError)
                log.warning("%s/%s is not cut off: %s", service, name, error, exc_info=not known)

    def _cut(self, service: str, name: str, now: Services) -> Services:
        if (service, name) not in self._drains.due(reporting.now()):
            raise ConflictError("its drain ended, or has another deadline now")
        return edits.patch_backend(now, service, name, {"admin": AdminState.MAINTENANCE})

    async def _change(
        self,
        edit: Callable[[Services], Services],
        service: str,
        author: str,
        reason: str,
        *,
        backend: str | None = None,
    ) -> None:
        """`edit` touches this service only; `backend`: the caller handed in a document of that backend."""
        document = f"/services/{service}" + (f"/backends/{backend}" if backend else "")
        async with self._reconciler.lock:
            before = self._services
            wanted = edit(before)
            self._reconciler.refuse_unreachable(wanted, before, document)
            with self._reconciler.trying(wanted, [service]):
                self._revision = self._history.append(wanted, author=author, reason=reason).id
            self._tell(before, wanted, author, reason)
            self._follow_drains()
            await self._reconciler.ensure_vips()

    def _tell(self, before: Services, after: Services, author: str, reason: str) -> None:
        log.info("revision %d by %s: %s", self._revision, author, reason)
        for kind, subject, text, data in happenings(before, after):
            self.events.publish(
                kind, subject, text, **data, author=author, reason=reason, revision=self._revision
            )

    def _follow_drains(self) -> None:
        """A drain runs exactly while its backend is to be drained, whoever changed that, and how."""
        draining = {
            (name, key)
            for name, spec in self._services.items()
            for key, backend in spec.backends.items()
            if backend.admin is AdminState.DRAIN
        }
        for key in self._drains.running() - draining:
            self._drains.end(key)
        for key in draining - self._drains.running():
            self._drains.begin(key, self._plane.counts(key).active)

    async def _keep_deadlines(self) -> None:
        while True:
            await asyncio.sleep(DEADLINES_APART)
            await self.cut_overdue()
            self._look()

    def _look(self) -> None:
        try:
            views = [self.backend(*key) for key in self._drains.running()]
            drained = {(view.service, view.name) for view in views if view.operational is Operational.DRAINED}
            self._lookout.look(self.readiness().problems, drained, self._plane.attachments())
        except Exception as error:  # looked at again in a second
            known = isinstance(error, DirectorError)
            log.warning("the data plane cannot be looked at: %s", error, exc_info=not known)
