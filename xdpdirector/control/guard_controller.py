# SPDX-License-Identifier: Apache-2.0
"""The deny list in the data plane and in the store, and counters of what limits refused.

A change goes to the data plane and then to the store; when a step fails, the data plane is rolled back. Limits are
part of the services; here they are only shown. `xdpdirector.state.denylist` edits the list.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import TypeVar

from xdpdirector.control.desired_state import MOST_TRIES
from xdpdirector.control.events import Events
from xdpdirector.dataplane.interface import Plane
from xdpdirector.errors import CapacityError, DirectorError, StoreError, SupersededError
from xdpdirector.model import Sizes
from xdpdirector.model.guard import DenyEntry, GuardSpec, Prefix
from xdpdirector.model.listener import Address
from xdpdirector.model.status import (
    DeniedView,
    GuardView,
    LimitView,
    Refused,
    utc_now,
)
from xdpdirector.state import denylist, etag
from xdpdirector.state.change_request import Intent
from xdpdirector.state.denylist import Denial, Denials, DenyListStore, SharedDenyListStore, StoredDenyList
from xdpdirector.state.diff import Difference
from xdpdirector.state.dry_run import DryRunError, beside
from xdpdirector.state.edits import Services
from xdpdirector.storage.audit_log import attempt_under_way
from xdpdirector.system.background_tasks import BackgroundTasks
from xdpdirector.system.threads import to_its_end

UPKEEP_APART = 5.0
MOST_TOLD = 20  # changes that get an event each
Made = TypeVar("Made")

log = logging.getLogger(__name__)


class GuardController:
    """`services`: the wanted ones, asked for when they are needed. Everything happens on one asyncio loop."""

    def __init__(
        self,
        plane: Plane,
        store: DenyListStore,
        events: Events,
        services: Callable[[], Services],
        sizes: Sizes,
        tasks: BackgroundTasks | None = None,
        shared: SharedDenyListStore | None = None,
    ) -> None:
        """`shared`: the store, when other directors write it, too."""
        self._shared = shared
        self._is_merged = True
        """Whether the configuration file is in the fleet's list."""
        self._version = 0
        self._tasks = tasks or BackgroundTasks()
        self.drift_repaired = 0
        self.trouble = ""
        """Why the data plane may differ from the deny list; empty when it does not."""
        self.warning = ""
        """Why the store may differ from the deny list; empty when it does not."""
        self._plane, self._store, self._events, self._services = plane, store, events, services
        self._room = sizes.denied
        self._kept, self._file = StoredDenyList({}), GuardSpec()
        self._sum: tuple[Denials, int] | None = None
        """A list and the sum of its entries' hashes, which its ETag is made of."""
        self._upkeep: asyncio.Task[None] | None = None
        self._addresses = _Addresses({})
        self._turn = asyncio.Lock()
        """Held while the list is changed or written to the data plane."""

    # Life

    def start(self, spec: GuardSpec) -> None:
        """Load the stored deny list, and merge the configuration file's. CapacityError.

        As long as the store cannot be read, the prefixes that the data plane denies stay denied.
        """
        unknown = Denial("denied by the data plane already", "unknown", utc_now())
        self._kept = StoredDenyList(dict.fromkeys(self._plane.denied(), unknown))
        self._take_in(spec)
        self._upkeep = self._tasks.start("the repair of the deny list", self._keep_up)

    async def take_in(self, spec: GuardSpec) -> None:
        """Merge the deny list of the configuration file."""
        async with self._turn:
            self._take_in(spec)

    def _take_in(self, spec: GuardSpec) -> None:
        self._file = spec
        before = self._kept.denials
        self._load()
        now = self._kept.denials
        new, gone = [each for each in now if each not in before], [each for each in before if each not in now]
        self._publish(new, gone, "file", "the configuration file changed")

    def _load(self) -> None:
        """Load the store and merge the file; use the present list as long as the store cannot be read."""
        known, self.warning = self._kept, ""
        try:
            known = self._store.load()
        except StoreError as error:
            self.warning = f"the deny list cannot be read: {error.detail}"
        wanted = _with_file(known, self._file)
        self._plane.deny(wanted.denials.keys())
        self._kept = StoredDenyList(wanted.denials, known.file_digest)
        if self._shared:
            self._version = self._shared.version
        if self.warning or wanted.file_digest == known.file_digest:
            return
        if self._shared:  # `follow` stores it, which waits for the network
            self._is_merged = False
            return
        try:
            self._store.keep(known.denials, wanted)
            self._kept = wanted
        except StoreError as error:
            self.warning = f"the deny list cannot be stored: {error.detail}"

    async def close(self) -> None:
        """Stop the repair; the data plane stays as it is."""
        if self._upkeep:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)

    # Reading

    def view(self) -> GuardView:
        services = self._services()
        refused = self._plane.refused(services)
        limits = {
            name: LimitView(limit=spec.limit, refused=refused[name])
            for name, spec in services.items()
            if refused[name] != Refused() or spec.limit
        }
        return GuardView(
            denied=len(self._kept.denials),
            room=self._room,
            denied_packets=self._plane.verdicts().get("drop_denied", 0),
            limits=limits,
        )

    def denied(self, client: Address | None = None) -> list[Prefix]:
        """The denied prefixes, the oldest first; with `client` only those that contain it, the widest first."""
        if client is None:
            return list(self._kept.denials)
        return denylist.covering(self._kept.denials, denylist.of_host(client))

    def denial(self, prefix: Prefix) -> DeniedView:
        """NotFoundError when it is not denied."""
        found = denylist.find(self._kept.denials, prefix)
        return DeniedView(
            prefix=prefix,
            **vars(found),
            packets=self._plane.denied_packets(prefix),
            warnings=self._warnings(prefix),
        )

    def _warnings(self, prefix: Prefix) -> tuple[str, ...]:
        if not prefix.prefixlen:
            return (f"it is every IPv{prefix.version} client",)
        services = self._services()
        if self._addresses.services is not services:
            self._addresses = _Addresses(services)
        return tuple(
            f"the address of backend {backend}, {address}, is under it"
            for backend, address in self._addresses.under(prefix)
        )

    def tag(self, prefix: Prefix | None = None) -> str:
        """The ETag of the list, or of an entry. NotFoundError."""
        denials = self._kept.denials
        if prefix is not None:
            return etag.tag(str(prefix), denylist.find(denials, prefix).reason)
        if self._sum is None or self._sum[0] is not denials:
            self._sum = (denials, sum(itertools.starmap(_number, denials.items())))
        return etag.tag("deny", str(self._sum[1] % (1 << 256)))

    # Writing

    async def add(self, entry: DenyEntry, *, intent: Intent) -> DeniedView:
        """Deny a prefix. ConflictError when exactly this prefix is denied already."""

        async def change() -> DeniedView:
            place = f"the denial of {entry.prefix}"
            intent.require_new(place, self._tag_of(entry.prefix))
            replace(intent, only_new=False).require("the deny list", self.tag())
            wanted = denylist.added(self._kept.denials, entry, intent.author, utc_now())
            return await self._changed(wanted, entry, intent)

        return await self._in_turn(change)

    async def put(self, entry: DenyEntry, *, intent: Intent) -> DeniedView:
        """Deny a prefix, or change the reason."""

        async def change() -> DeniedView:
            place, tag = f"the denial of {entry.prefix}", self._tag_of(entry.prefix)
            if tag is None:
                intent.require_absent(place)
            else:
                intent.require(place, tag)
            wanted = denylist.put(self._kept.denials, entry, intent.author, utc_now())
            return await self._changed(wanted, entry, intent)

        return await self._in_turn(change)

    async def remove(self, prefix: Prefix, *, intent: Intent) -> None:
        """NotFoundError when it is not denied."""

        async def change() -> None:
            wanted = denylist.removed(self._kept.denials, prefix)
            intent.require(f"the denial of {prefix}", self.tag(prefix))
            await self._change(wanted, [prefix], intent, f"allow {prefix}")

        await self._in_turn(change)

    async def replace(self, entries: Collection[DenyEntry], *, intent: Intent) -> None:
        """Replace the whole list. InvalidRequestError, CapacityError."""

        async def change() -> None:
            intent.require("the deny list", self.tag())
            before = self._kept.denials
            wanted = denylist.replaced(before, entries, intent.author, utc_now())
            touched = [*wanted, *(each for each in before if each not in wanted)]
            what = f"replace the deny list by {len(wanted)} prefixes"
            await self._change(wanted, touched, intent, what)

        await self._in_turn(change)

    async def _in_turn(self, change: Callable[[], Awaitable[Made]]) -> Made:
        """One change after the other; in a fleet each is made of what the fleet's list is then."""
        for left in range(MOST_TRIES - 1, -1, -1):
            if self._shared:
                await to_its_end(self._shared.refresh)
            async with self._turn:
                await self._follow()
                try:
                    return await change()
                except SupersededError:
                    if not left:
                        raise
            await asyncio.sleep(random.uniform(0, 0.02))
        raise AssertionError

    # What other directors change

    @property
    def version(self) -> int:
        """Of a fleet's list: how many changes there were up to what the data plane denies."""
        return 0 if self.trouble else self._version

    async def follow(self) -> None:
        """Deny what another director denied, as far as it is known here, and store what the configuration file
        changes."""
        if not self._has_news():
            return
        async with self._turn:
            try:
                await self._follow()
            except SupersededError:  # in the next round
                log.debug("the deny list changed while the configuration file was merged")
            except StoreError as error:
                self.warning = f"the deny list cannot be stored: {error.detail}"

    def _has_news(self) -> bool:
        return self._shared is not None and (self._shared.has_news or not self._is_merged)

    async def _follow(self) -> None:
        """`_turn` is held. StoreError, SupersededError."""
        if self._shared is None or not self._has_news():
            return
        known = await to_its_end(self._shared.load)
        wanted = _with_file(known, self._file)
        if wanted.file_digest != known.file_digest:
            await to_its_end(partial(self._shared.keep, known.denials, wanted))
        before, after = self._kept.denials, wanted.denials
        new = [each for each in after if each not in before]
        gone = [each for each in before if each not in after]
        self._kept, self._is_merged, self.warning = wanted, True, ""
        try:
            if self.trouble:
                self._apply(after)
            else:
                self._plane.deny_some(new, gone)
        except Exception:
            self._apply(after)
        self._version = self._shared.version
        self._publish_fleets(new, gone)

    def _publish_fleets(self, new: Collection[Prefix], gone: Collection[Prefix]) -> None:
        """What another director changed, by the author of each denial."""
        now = self._kept.denials
        if len(new) + len(gone) > MOST_TOLD:
            self._publish(new, gone, "fleet", "another director changed the deny list")
            return
        for prefix in new:
            self._publish([prefix], [], now[prefix].author, now[prefix].reason)
        self._publish([], gone, "fleet", "another director changed the deny list")

    async def _changed(self, wanted: Denials, entry: DenyEntry, intent: Intent) -> DeniedView:
        await self._change(wanted, [entry.prefix], intent, f"deny {entry.prefix}")
        return self.denial(entry.prefix)

    def _tag_of(self, prefix: Prefix) -> str | None:
        """None when it is not denied."""
        return self.tag(prefix) if prefix in self._kept.denials else None

    async def _change(self, after: Denials, touched: Collection[Prefix], intent: Intent, what: str) -> None:
        """Only prefixes of `touched` may differ, so that the cost does not grow with the list. DryRunError for a
        dry run."""
        before, kept = self._kept.denials, StoredDenyList(after, self._kept.file_digest)
        if intent.dry_run:
            if len(after) > self._room:
                raise CapacityError(
                    f"there is room for {self._room} denied prefixes, and {len(after)} are wanted: raise "
                    "sizes.denied"
                )
            raise DryRunError(_differences(before, after))
        reason = intent.because(what)
        new = [each for each in touched if each in after and each not in before]
        gone = [each for each in touched if each in before and each not in after]
        try:
            self._plane.deny_some(new, gone)
            await to_its_end(partial(self._store.keep_some, before, kept, touched))
        except Exception:
            self._apply(before)
            raise
        self.tag()
        assert self._sum
        lost = sum(_number(each, before[each]) for each in touched if each in before)
        come = sum(_number(each, after[each]) for each in touched if each in after)
        self._sum = (after, self._sum[1] - lost + come)
        self._kept, self.trouble = kept, ""
        if self._shared:
            self._version = self._shared.version
        attempt = attempt_under_way()
        if attempt:
            attempt.reason = reason
        self._publish(new, gone, intent.author, reason)

    def _publish(self, new: Collection[Prefix], gone: Collection[Prefix], author: str, reason: str) -> None:
        now = self._kept.denials
        if len(new) + len(gone) > MOST_TOLD:
            text = f"prefixes denied: {len(new)}, and denied no more: {len(gone)}"
            self._events.publish("guard.changed", "guard", text, author=author, reason=reason)
            return
        for prefix in new:
            why = now[prefix].reason
            text = f"denied: {why}" if why else "denied"
            self._events.publish("guard.denied", str(prefix), text, author=author, reason=reason)
        for prefix in gone:
            self._events.publish("guard.allowed", str(prefix), "denied no more", author=author, reason=reason)

    # Repair

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_APART)
            await self.look()

    async def look(self) -> None:
        """Repair drift, and retry what failed before. Without drift the cost does not grow with the list, and
        nothing is written."""
        async with self._turn:
            if self.warning or self.trouble or not await self._is_as_wanted():
                self.repair()

    async def _is_as_wanted(self) -> bool:
        try:
            return await self._plane.denies_as_wanted()
        except DirectorError as error:
            log.warning("the deny list of the data plane cannot be read: %s", error.detail)
            return False

    def repair(self) -> None:
        """Write the list to the data plane where that drifted."""
        if self.warning:
            self._try_again()
        failed, places = bool(self.trouble), self._apply(self._kept.denials)
        if places and not failed:
            text = f"places of the data plane that had drifted and were repaired: {places}"
            self._events.publish("dataplane.drift", "guard", text, places=places)
            self.drift_repaired += places

    def _try_again(self) -> None:
        try:
            self._load()
        except DirectorError as error:
            log.warning("the deny list is not in the data plane: %s", error.detail)

    def _apply(self, denials: Denials) -> int:
        """Write the list to the data plane; the number of writes. `trouble` holds the error."""
        try:
            places = self._plane.deny(denials.keys())
            self.trouble = ""
            return places
        except Exception as error:
            self.trouble = f"the data plane does not deny just what is on the deny list: {error}"
            log.warning("%s", self.trouble, exc_info=not isinstance(error, DirectorError))
            return 0


def _differences(before: Denials, after: Denials) -> tuple[Difference, ...]:
    """As `/guard/deny/PREFIX`."""
    said = [
        {str(each): {"prefix": str(each), "reason": denial.reason} for each, denial in denials.items()}
        for denials in (before, after)
    ]
    names = [*said[0], *(name for name in said[1] if name not in said[0])]
    return tuple(
        beside("guard/deny", name, said[0].get(name), said[1].get(name))
        for name in names
        if said[0].get(name) != said[1].get(name)
    )


def _number(prefix: Prefix, denial: Denial) -> int:
    return int.from_bytes(sha256(f"{prefix} {denial.reason}".encode()).digest(), "big")


def _with_file(kept: StoredDenyList, spec: GuardSpec) -> StoredDenyList:
    digest = sha256(spec.model_dump_json().encode()).hexdigest()
    return StoredDenyList(denylist.merged_with_file(kept, spec.deny, digest, utc_now()), digest)


class _Addresses:
    """The backends' addresses, sorted, to find those in a prefix quickly."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self._sorted = sorted(
            (backend.address.version, int(backend.address), f"{service}/{name}", str(backend.address))
            for service, spec in services.items()
            for name, backend in spec.backends.items()
        )

    def under(self, prefix: Prefix) -> Iterator[tuple[str, str]]:
        """Backends and their addresses."""
        begin = bisect_left(self._sorted, (prefix.version, int(prefix.network_address)))
        for version, address, backend, text in itertools.islice(self._sorted, begin, None):
            if (version, address) > (prefix.version, int(prefix.broadcast_address)):
                return
            yield backend, text
