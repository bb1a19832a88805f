# SPDX-License-Identifier: Apache-2.0
"""Moves the desired state of a director from its own file to etcd, and back, while its daemon does not run.

A move keeps what was there before under another name, and the numbers, times and authors of revisions. What a move
would do is said first. Knows nothing of the data plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from xdpdirector.errors import ConflictError, NotFoundError, StoreError
from xdpdirector.model.store import StoreSpec
from xdpdirector.state.denylist import StoredDenyList
from xdpdirector.state.revisions import Revision, RevisionDraft, Summary
from xdpdirector.storage.database import set_aside
from xdpdirector.storage.denylist_store import SqliteDenyList
from xdpdirector.storage.etcd.fleet_denylist import FleetDenyList
from xdpdirector.storage.etcd.fleet_store import FETCHED_FIRST, FleetStore
from xdpdirector.storage.etcd.gateway import Gateway
from xdpdirector.storage.fallback import FallbackStore
from xdpdirector.storage.store import MIRROR_FORMAT, Store


@dataclass(frozen=True)
class Places:
    """The director's own state, its copy of a fleet's, a directory that may be made, and where the fleet's is."""

    own: Path
    copy: Path
    spare: Path
    etcd: StoreSpec
    director: str

    @property
    def prefix(self) -> str:
        return self.etcd.prefix


def to_etcd(places: Places, *, do: bool) -> list[str]:
    """What it takes to begin a fleet with this director's state, or, with `do`, what was done; a sentence each.

    NotFoundError: it has none; ConflictError: there is a fleet of that prefix; StoreError.
    """
    if not places.own.exists():
        raise NotFoundError(f"there is nothing to move: {places.own} does not exist")
    with ExitStack() as stack:
        own = stack.enter_context(Store(places.own))
        latest = own.latest()
        if latest is None:
            raise NotFoundError(f"there is nothing to move: {places.own} has no revision")
        gateway = stack.enter_context(closing(Gateway(places.etcd)))
        _require_empty(gateway, places)
        kept = _kept(own.summaries(before=None, limit=FETCHED_FIRST))
        denied = SqliteDenyList(lambda: own.database).load()
        plan = [
            f"from {places.own}: {_told(latest)}; drains under way: {len(own.drains())}; prefixes denied: "
            f"{len(denied.denials)}",
            f"to etcd at {gateway.endpoint}, {places.prefix}: there is nothing yet",
            f"revisions that go there, with their numbers: {kept[0]} to {kept[-1]}",
            f"{places.own} stays as it is",
        ]
        if places.copy.exists():
            plan.append(f"{places.copy}, of a former fleet, is kept under another name")
        if not do:
            return plan
        if places.copy.exists():
            set_aside(places.copy, "former")
        mirror = stack.enter_context(FallbackStore(places.copy, places.spare, form=MIRROR_FORMAT))
        for number in kept:
            found = own.revision(number)
            if found:
                is_latest = number == latest.id
                mirror.record(number, found.at, _draft(own, found, is_latest=is_latest))
        store = FleetStore(gateway, places.prefix, mirror, places.director)
        store.refresh()
        made = store.latest()
        if made is None or (made.id, made.at) != (latest.id, latest.at):
            raise ConflictError("another director began the fleet meanwhile: its state counts")
        denials = FleetDenyList(store, SqliteDenyList(lambda: mirror.database), lambda: denied)
        denials.keep(denials.load().denials, denied)
        return [*plan, f"done: {_told(made)} is in etcd"]


def to_sqlite(places: Places, *, do: bool) -> list[str]:
    """What it takes to go on alone with the fleet's state, or, with `do`, what was done; a sentence each.

    NotFoundError: nothing is known of a fleet; StoreError.
    """
    with ExitStack() as stack:
        mirror = stack.enter_context(FallbackStore(places.copy, places.spare, form=MIRROR_FORMAT))
        gateway = stack.enter_context(closing(Gateway(places.etcd)))
        store = FleetStore(gateway, places.prefix, mirror, places.director)
        try:
            store.refresh()
            origin = f"from etcd at {gateway.endpoint}, {places.prefix}"
        except StoreError as error:
            origin = f"from {places.copy}, what this director saw last, as {error.detail}"
        latest = store.latest()
        if latest is None:
            raise NotFoundError(f"there is nothing to move: {places.prefix} has no revision")
        kept = _kept(store.summaries(before=None, limit=FETCHED_FIRST))
        own = stack.enter_context(Store(places.own))
        before = own.latest()
        plan = [
            f"{origin}: {_told(latest)}; drains under way: {len(store.drains())}",
            f"to {places.own}: {_told(before) if before else 'there is no revision yet'}",
            f"revisions that go there, with their numbers: {kept[0]} to {kept[-1]}",
        ]
        denied, is_known = _fleets_denials(store, mirror)
        if is_known:
            plan.append(f"the fleet's deny list goes there: prefixes denied: {len(denied.denials)}")
        if before:
            plan.append("what is there is kept in a file beside it")
        plan.append("the fleet and its other directors stay as they are")
        if not do:
            return plan
        if before:
            plan.append(f"what was there is kept as {own.keep_copy()}")
        for number in kept:
            found = store.revision(number)
            if found:
                is_latest = number == latest.id
                own.record(number, found.at, _draft(store, found, is_latest=is_latest))
        own.forget_but(kept[0], kept[-1])
        if is_known:
            former = SqliteDenyList(lambda: own.database)
            former.keep(former.load().denials, denied)
        return [*plan, f"done: {_told(latest)} is in {places.own}"]


def _fleets_denials(store: FleetStore, mirror: FallbackStore) -> tuple[StoredDenyList, bool]:
    """What is known of the fleet's deny list, and whether anything is."""
    nothing = StoredDenyList({})
    denials = FleetDenyList(store, SqliteDenyList(lambda: mirror.database), lambda: nothing)
    try:
        return denials.load(), denials.version > 0
    except StoreError:
        return nothing, False


def _draft(source: Store | FleetStore, found: Revision, *, is_latest: bool) -> RevisionDraft:
    """As it is stored elsewhere; the newest one with the drains and the file that was merged."""
    file = source.file() if is_latest and found.file_digest else None
    return RevisionDraft(
        found.services,
        found.author,
        found.reason,
        drains=source.drains() if is_latest else None,
        file_digest=found.file_digest if file is not None else None,
        file_services=file,
    )


def _require_empty(gateway: Gateway, places: Places) -> None:
    if gateway.range(f"{places.prefix}/head", f"{places.prefix}/head\0"):
        raise ConflictError(
            f"there is a fleet at {places.prefix} already: restart the daemon to join it, or say another prefix"
        )


def _kept(summaries: Sequence[Summary]) -> list[int]:
    return sorted(each.id for each in summaries)


def _told(revision: Revision) -> str:
    return (
        f"revision {revision.id} of {revision.at:%Y-%m-%d %H:%M:%S} UTC by {revision.author}, "
        f"services: {len(revision.services)}"
    )
