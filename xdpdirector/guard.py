# SPDX-License-Identifier: Apache-2.0
"""The guard as API and daemon see it: the deny list, kept and in the plane, and what limits refused.

A change is brought to the plane and kept, in that order; when a step fails, the plane is brought back to what was.
Limits are part of the services; here they are only shown. How the list changes is in `denylist`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from hashlib import sha256

from xdpdirector import denylist, reporting, tags
from xdpdirector.audit import attempt_under_way
from xdpdirector.background import BackgroundTasks
from xdpdirector.denylist import Denial, Denials, Keeper, Kept
from xdpdirector.differences import Difference
from xdpdirector.dryrun import DryRunError, beside
from xdpdirector.edits import Services
from xdpdirector.errors import CapacityError, DirectorError, StoreError
from xdpdirector.events import Events
from xdpdirector.guardspec import DenyEntry, GuardSpec, Prefix
from xdpdirector.intent import Intent
from xdpdirector.listener import Address
from xdpdirector.model import Sizes
from xdpdirector.plane import Plane
from xdpdirector.views import DeniedView, GuardView, LimitView, Refused

UPKEEP_APART = 5.0
MOST_TOLD = 20  # changes that are told one by one

log = logging.getLogger(__name__)


class Guard:
    """`services`: the wanted ones, asked for when they are needed. Everything happens on one asyncio loop."""

    def __init__(
        self,
        plane: Plane,
        keeper: Keeper,
        events: Events,
        services: Callable[[], Services],
        sizes: Sizes,
        tasks: BackgroundTasks | None = None,
    ) -> None:
        self._tasks = tasks or BackgroundTasks()
        self.drift_repaired = 0
        self.trouble = ""
        """Why the plane may not deny what it should; empty when all is well."""
        self.warning = ""
        """Why what is kept may say something else than what is denied; empty when all is well."""
        self._plane, self._keeper, self._events, self._services = plane, keeper, events, services
        self._room = sizes.denied
        self._kept, self._file = Kept({}), GuardSpec()
        self._tag: tuple[Denials, str] | None = None
        self._upkeep: asyncio.Task[None] | None = None

    # Life

    def start(self, spec: GuardSpec) -> None:
        """Go on with what is kept, and take in what the configuration file says. CapacityError.

        As long as what is kept cannot be read, what the plane denies stays denied.
        """
        unknown = Denial("denied by the data plane already", "unknown", reporting.now())
        self._kept = Kept(dict.fromkeys(self._plane.denied(), unknown))
        self.take_in(spec)
        self._upkeep = self._tasks.start("the repair of the deny list", self._keep_true)

    def take_in(self, spec: GuardSpec) -> None:
        """Make what the configuration file says part of the list."""
        self._file = spec
        before = self._kept.denials
        self._take_up()
        self._tell(before, "file", "the configuration file changed")

    def _take_up(self) -> None:
        """Go on with what is kept, and the file; with what is known already as long as nothing can be read."""
        known, self.warning = self._kept, ""
        try:
            known = self._keeper.load()
        except StoreError as error:
            self.warning = f"the deny list cannot be read: {error.detail}"
        wanted = _with_file(known, self._file)
        self._plane.deny(wanted.denials.keys())
        self._kept = Kept(wanted.denials, known.file_digest)
        if self.warning or wanted.file_digest == known.file_digest:
            return
        try:
            self._keeper.keep(known.denials, wanted)
            self._kept = wanted
        except StoreError as error:
            self.warning = f"the deny list cannot be stored: {error.detail}"

    async def close(self) -> None:
        """The plane stays as it is."""
        if self._upkeep:
            self._upkeep.cancel()
            await asyncio.gather(self._upkeep, return_exceptions=True)

    # Reading

    def view(self) -> GuardView:
        limits = {
            name: LimitView(limit=spec.limit, refused=refused)
            for name, spec in self._services().items()
            if (refused := self._plane.refused(name)) != Refused() or spec.limit
        }
        return GuardView(
            denied=len(self._kept.denials),
            room=self._room,
            denied_packets=self._plane.verdicts().get("drop_denied", 0),
            limits=limits,
        )

    def denied(self, client: Address | None = None) -> list[Prefix]:
        """The denied prefixes in the order in which they came; those over `client` only, the widest first."""
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
            warnings=_warnings(prefix, self._services()),
        )

    def tag(self, prefix: Prefix | None = None) -> str:
        """Of the list, or of an entry: another one after each change. NotFoundError."""
        denials = self._kept.denials
        if prefix is not None:
            return tags.tag(str(prefix), denylist.find(denials, prefix).reason)
        if self._tag is None or self._tag[0] is not denials:
            said = sorted(f"{each} {denial.reason}" for each, denial in denials.items())
            self._tag = (denials, tags.tag("deny", *said))
        return self._tag[1]

    # Writing

    async def add(self, entry: DenyEntry, *, intent: Intent) -> DeniedView:
        """ConflictError when just this prefix is denied already."""
        place = f"the denial of {entry.prefix}"
        intent.require_new(place, self._tag_of(entry.prefix))
        replace(intent, only_new=False).require("the deny list", self.tag())
        wanted = denylist.added(self._kept.denials, entry, intent.author, reporting.now())
        return self._changed(wanted, entry, intent)

    async def put(self, entry: DenyEntry, *, intent: Intent) -> DeniedView:
        """Deny it, or give another reason."""
        place, tag = f"the denial of {entry.prefix}", self._tag_of(entry.prefix)
        if tag is None:
            intent.require_absent(place)
        else:
            intent.require(place, tag)
        wanted = denylist.put(self._kept.denials, entry, intent.author, reporting.now())
        return self._changed(wanted, entry, intent)

    async def remove(self, prefix: Prefix, *, intent: Intent) -> None:
        """NotFoundError when it is not denied."""
        wanted = denylist.removed(self._kept.denials, prefix)
        intent.require(f"the denial of {prefix}", self.tag(prefix))
        self._change(Kept(wanted, self._kept.file_digest), intent, f"allow {prefix}")

    async def replace(self, entries: Collection[DenyEntry], *, intent: Intent) -> None:
        """Deny exactly these; all of it or nothing. InvalidRequestError, CapacityError."""
        intent.require("the deny list", self.tag())
        wanted = denylist.replaced(self._kept.denials, entries, intent.author, reporting.now())
        what = f"replace the deny list by {len(wanted)} prefixes"
        self._change(Kept(wanted, self._kept.file_digest), intent, what)

    def _changed(self, wanted: Denials, entry: DenyEntry, intent: Intent) -> DeniedView:
        self._change(Kept(wanted, self._kept.file_digest), intent, f"deny {entry.prefix}")
        return self.denial(entry.prefix)

    def _tag_of(self, prefix: Prefix) -> str | None:
        """None when it is not denied."""
        return self.tag(prefix) if prefix in self._kept.denials else None

    def _change(self, kept: Kept, intent: Intent, what: str) -> None:
        """DryRunError when it is only tried."""
        before = self._kept
        if intent.dry_run:
            if len(kept.denials) > self._room:
                raise CapacityError(
                    f"there is room for {self._room} denied prefixes, and {len(kept.denials)} are wanted: raise "
                    "sizes.denied"
                )
            raise DryRunError(_differences(before.denials, kept.denials))
        reason = intent.because(what)
        try:
            self._plane.deny(kept.denials.keys())
            self._keeper.keep(before.denials, kept)
        except Exception:
            self._bring(before.denials)
            raise
        self._kept, self.trouble = kept, ""
        attempt = attempt_under_way()
        if attempt:
            attempt.reason = reason
        self._tell(before.denials, intent.author, reason)

    def _tell(self, before: Denials, author: str, reason: str) -> None:
        now = self._kept.denials
        new, gone = [each for each in now if each not in before], [each for each in before if each not in now]
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

    # Keeping it so

    async def _keep_true(self) -> None:
        while True:
            await asyncio.sleep(UPKEEP_APART)
            self.repair()

    def repair(self) -> None:
        """Bring the plane to the list again, where it drifted."""
        if self.warning:
            self._try_again()
        failed, places = bool(self.trouble), self._bring(self._kept.denials)
        if places and not failed:
            text = f"places of the data plane that had drifted and were repaired: {places}"
            self._events.publish("dataplane.drift", "guard", text, places=places)
            self.drift_repaired += places

    def _try_again(self) -> None:
        try:
            self._take_up()
        except DirectorError as error:
            log.warning("the deny list is not in the data plane: %s", error.detail)

    def _bring(self, denials: Denials) -> int:
        """How many places were written; `trouble` says what went wrong."""
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


def _with_file(kept: Kept, spec: GuardSpec) -> Kept:
    digest = sha256(spec.model_dump_json().encode()).hexdigest()
    return Kept(denylist.merged_with_file(kept, spec.deny, digest, reporting.now()), digest)


def _warnings(prefix: Prefix, services: Services) -> tuple[str, ...]:
    if not prefix.prefixlen:
        return (f"it is every IPv{prefix.version} client",)
    return tuple(
        f"the address of backend {service}/{name}, {backend.address}, is under it"
        for service, spec in services.items()
        for name, backend in spec.backends.items()
        if backend.address in prefix
    )


def _digest(spec: GuardSpec) -> str:
    return sha256(json.dumps(spec.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
