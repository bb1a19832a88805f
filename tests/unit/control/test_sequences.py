# SPDX-License-Identifier: Apache-2.0
"""Any sequence of changes, good ones and bad ones: the plane holds what is wanted, the store every revision of it.

The director is real, and so is its database; the plane is a fake that fails when it is told to. Nothing depends on
the time, so there is no slow start. XDPDIRECTOR_SEED chooses other sequences.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import tests.support.stage as s
from tests.support.fake_plane import FakePlane
from tests.support.stage import BASE, HOSTS, ME, Stage
from tests.support.staged_daemon import MEMORY
from xdpdirector.control.director import Director
from xdpdirector.control.planner import plan
from xdpdirector.errors import DirectorError
from xdpdirector.model import AdminState, BackendSpec, Configuration, ServiceSpec
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.change_request import Intent
from xdpdirector.storage.denylist_store import SqliteDenyList
from xdpdirector.storage.fallback import FallbackStore

Change = Callable[[Director], Coroutine[Any, Any, object]]
Wanted = dict[str, ServiceSpec]

MAIL_LISTENER = "192.0.2.11:25/tcp"
SERVICES = st.sampled_from(["web", "mail", "dns"])
BACKENDS = st.sampled_from(list(HOSTS))
REASONS = st.sampled_from(["", "new disk"])
LISTENERS = st.sampled_from(
    ["192.0.2.10:80/tcp", "192.0.2.10:443/tcp", "192.0.2.10:8000-8099/tcp", "192.0.2.11:*/udp"]
)
TIMES = st.sampled_from(["1ms", "0.0015s", "1.5s", "333ms", "1.1m", 0.29, 7, None])
RATES = st.sampled_from(["7/h", "0.1666666667/s", "10/m", 12.5, 1e7])
BACKEND = st.fixed_dictionaries(
    {},
    optional={
        "address": st.sampled_from([str(address) for address in (*HOSTS.values(), s.FAR)]),
        "weight": st.sampled_from([0, 1, 2, 3, -1]),
        "max_connections": st.sampled_from([None, 10]),
        "admin": st.sampled_from(list(AdminState)),
    },
)
SERVICE = st.fixed_dictionaries(
    {"listeners": st.lists(LISTENERS, min_size=1, max_size=2)},
    optional={
        "scheduler": st.sampled_from(["wlc", "rr", "mh", "sh", "fo"]),
        "ring_slots": st.sampled_from([251, 4093, 252]),
        "on_empty": st.sampled_from(["reject", "drop"]),
        "fallback": st.sampled_from([None, "web1"]),
        "limit": st.fixed_dictionaries({"rate": RATES}),
        "persistence": st.fixed_dictionaries({}, optional={"timeout": TIMES}),
        "timeouts": st.fixed_dictionaries({}, optional={"udp": TIMES, "tcp": TIMES}),
        "backends": st.dictionaries(BACKENDS, BACKEND, max_size=3),
    },
)


class Sequences(RuleBasedStateMachine):
    """`past` has what each revision wanted. A change that is refused must leave all as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.past: dict[int, Wanted] = {}
        self.plane = FakePlane()
        self._runner = asyncio.Runner()
        self._directory = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        directory = Path(self._directory.name)
        self.archive = FallbackStore(directory / "state.db", directory / "spare")

    @initialize()
    def begin(self) -> None:
        latest = self.archive.latest()
        kept = (self.archive, SqliteDenyList(lambda: self.archive.database))
        self.stage = Stage(self.plane, kept=kept, **(latest.services if latest else {}))
        self._runner.run(self.stage.__aenter__())
        if latest is None:
            self.change(lambda d: d.create_service("web", s.service("web1", "web2"), intent=ME))
            self.change(
                lambda d: d.create_service("mail", s.service("web3", listener=MAIL_LISTENER), intent=ME)
            )

    def teardown(self) -> None:
        self.end()
        self._runner.close()
        self.archive.close()
        self._directory.cleanup()

    def end(self) -> None:
        self._runner.run(self.stage.__aexit__())

    def change(self, change: Change) -> bool:
        """Whether it was done, and not refused. It is one revision, or none when it changed nothing."""
        director = self.stage.director
        before, tag, revision = self.stage.wanted(), director.tag(), self.revision
        shown, done = self.stage.shown(), True
        try:
            self._runner.run(change(director))
        except DirectorError:
            assert self.stage.shown() == shown
            done = False
        after = self.stage.wanted()
        assert (director.tag() == tag) == (after == before)
        assert self.revision in (revision, revision + 1)
        if self.revision > revision:
            self.past[self.revision] = after
        else:
            assert after == before
        return done

    @property
    def revision(self) -> int:
        return self.stage.director.readiness().revision

    @rule(name=SERVICES, document=SERVICE)
    def create_service(self, name: str, document: dict[str, Any]) -> None:
        self.change(lambda d: d.create_service(name, spec(ServiceSpec, document), intent=ME))

    @rule(name=SERVICES, document=SERVICE)
    def replace_service(self, name: str, document: dict[str, Any]) -> None:
        self.change(lambda d: d.put_service(name, spec(ServiceSpec, document), intent=ME))

    @rule(name=SERVICES, patch=SERVICE, part=st.sampled_from(["listeners", "backends", "limit", "scheduler"]))
    def patch_service(self, name: str, patch: dict[str, Any], part: str) -> None:
        changes = {part: addressed(patch).get(part)}
        self.change(lambda d: d.patch_service(name, changes, intent=ME))

    @rule(name=SERVICES)
    def delete_service(self, name: str) -> None:
        self.change(lambda d: d.delete_service(name, intent=ME))

    @rule(service=SERVICES, name=BACKENDS, document=BACKEND)
    def create_backend(self, service: str, name: str, document: dict[str, Any]) -> None:
        made = {"address": str(HOSTS[name]), **document}
        self.change(lambda d: d.create_backend(service, name, spec(BackendSpec, made), intent=ME))

    @rule(service=SERVICES, name=BACKENDS, patch=BACKEND)
    def patch_backend(self, service: str, name: str, patch: dict[str, Any]) -> None:
        self.change(lambda d: d.patch_backend(service, name, patch, intent=ME))

    @rule(service=SERVICES, name=BACKENDS, force=st.booleans())
    def delete_backend(self, service: str, name: str, force: bool) -> None:
        self.change(lambda d: d.drains.delete_backend(service, name, force=force, intent=ME))

    @rule(service=SERVICES, name=BACKENDS, admin=st.sampled_from(list(AdminState)), reason=REASONS)
    def set_admin(self, service: str, name: str, admin: AdminState, reason: str) -> None:
        self.change(lambda d: d.drains.set_admin(service, name, AdminChange(admin, reason=reason), intent=ME))

    @rule(services=st.dictionaries(SERVICES, SERVICE, max_size=3), dry_run=st.booleans())
    def apply(self, services: dict[str, Any], dry_run: bool) -> None:
        def whole() -> Configuration:
            return spec(Configuration, {"interfaces": BASE.interfaces, "services": services})

        self.change(lambda d: d.configuration.apply(whole(), intent=ME, dry_run=dry_run))

    @rule(back=st.integers(0, 5))
    def roll_back(self, back: int) -> None:
        number = self.revision - back
        if self.change(lambda d: d.configuration.roll_back(number, intent=ME)):
            assert self.stage.wanted() == self.past[number]

    @rule(name=SERVICES)
    def nobody_overwrites_what_he_has_not_seen(self, name: str) -> None:
        before = self.stage.wanted()
        stale = Intent("operator", expected=frozenset({"of yesterday"}))
        self.change(lambda d: d.delete_service(name, intent=stale))
        assert self.stage.wanted() == before

    @rule(name=SERVICES, document=SERVICE)
    def the_plane_fails(self, name: str, document: dict[str, Any]) -> None:
        """For a moment, and the upkeep brings it right."""
        self.plane.broken = OSError(5, "Input/output error")
        before = self.stage.wanted()
        try:
            self._runner.run(self.stage.director.create_service(name, spec(ServiceSpec, document), intent=ME))
        except (DirectorError, OSError):
            assert self.stage.wanted() == before
        self.plane.broken = None
        self._runner.run(self.stage.reconciler.upkeep())

    @rule()
    def restart(self) -> None:
        """All that is wanted survives being stored and read, to the last digit."""
        before = self.stage.wanted()
        self.end()
        self.begin()
        assert self.stage.wanted() == before

    @invariant()
    def the_plane_holds_what_is_wanted(self) -> None:
        reconciler = self.stage.reconciler
        assert self.plane.plans == {
            name: plan(name, wanted, {key: reconciler.backend_status((name, key)) for key in wanted.backends})
            for name, wanted in self.stage.wanted().items()
        }
        assert reconciler.problems() == []
        assert reconciler.drift_repaired == 0

    @invariant()
    def every_revision_is_kept(self) -> None:
        latest = self.archive.latest()
        assert latest is None or latest.services == self.stage.wanted()
        assert [each.id for each in self.archive.summaries(before=None, limit=1000)] == sorted(
            self.past, reverse=True
        )
        for number, wanted in self.past.items():
            found = self.archive.revision(number)
            assert found is not None
            assert found.services == wanted


def spec(model: Any, document: dict[str, Any]) -> Any:
    """As HTTP would read it; a DirectorError for what is none. Backends without an address have their host's."""
    try:
        return model.model_validate(addressed(document))
    except ValueError as error:
        raise DirectorError(str(error)) from error


def addressed(document: dict[str, Any]) -> dict[str, Any]:
    parts = {name: addressed(each) for name, each in document.get("services", {}).items()}
    hosts = {
        name: {"address": str(HOSTS[name]), **each} for name, each in document.get("backends", {}).items()
    }
    return document | ({"services": parts} if parts else {}) | ({"backends": hosts} if hosts else {})


Machine = seed(int(os.environ.get("XDPDIRECTOR_SEED", "1")))(Sequences)
TestSequences = Machine.TestCase
TestSequences.settings = settings(
    max_examples=settings.default.max_examples // 4,
    stateful_step_count=30,
    database=None,
    suppress_health_check=list(HealthCheck),
)
