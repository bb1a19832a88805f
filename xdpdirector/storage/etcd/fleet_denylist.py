# SPDX-License-Identifier: Apache-2.0
"""The deny list of a fleet, in etcd. What this director's own configuration file has of it stands in its own file.

Knows the list; nothing of packets.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from xdpdirector.errors import StoreError, SupersededError
from xdpdirector.model.guard import Prefix, parse_prefix
from xdpdirector.state.denylist import Denial, Denials, DenyListStore, StoredDenyList
from xdpdirector.storage.etcd import documents
from xdpdirector.storage.etcd.fleet_store import FleetStore
from xdpdirector.storage.etcd.shared_table import NOTHING, TableState


class FleetDenyList:
    """A `xdpdirector.state.denylist.SharedDenyListStore`. Threads may use it.

    `own`: where the part is kept that this director's configuration file has. `first`: the list that begins the
    fleet's, when that has none yet.
    """

    def __init__(self, store: FleetStore, own: DenyListStore, first: Callable[[], StoredDenyList]) -> None:
        self._store, self._table = store, store.denials
        self._own, self._first = own, first
        self._turn = threading.RLock()
        self._state: TableState | None = None
        """What was loaded last; `_denials` is what it says."""
        self._parts: tuple[dict[Prefix, Denial], ...] = tuple({} for _ in NOTHING.ids)
        self._ids: tuple[str, ...] = NOTHING.ids
        self._denials: Denials | None = None
        self._kept = StoredDenyList({})
        """Of the configuration file."""
        self._is_read = False

    @property
    def version(self) -> int:
        """How many changes there were up to what was loaded last."""
        return self._state.version if self._state else 0

    @property
    def has_news(self) -> bool:
        """Whether there is something that was not loaded yet."""
        if self._state is None:
            return self._table.is_asked or self._table.state is not None
        return self._table.state is not self._state

    def refresh(self) -> None:
        """Ask etcd. StoreError."""
        self._store.look()
        self._store.refresh()

    def load(self) -> StoredDenyList:
        """The fleet's. StoreError when nothing is known of it yet."""
        with self._turn:
            self._read_own()
            state = self._table.state
            if state is None:
                if not self._table.is_asked:
                    raise StoreError("etcd has not answered yet")
                self._state, self._denials = None, self._first().denials
                return StoredDenyList(self._denials, None)
            self._decode(state)
            of_file = self._kept.denials
            found = [
                (prefix, replace(denial, from_file=True) if prefix in of_file else denial)
                for part in self._parts
                for prefix, denial in part.items()
            ]
            found.sort(key=_place)
            self._state, self._denials = state, dict(found)
            return StoredDenyList(
                self._denials, self._kept.file_digest, has_joined=self._kept.file_digest is None
            )

    def keep(self, before: Denials, kept: StoredDenyList) -> None:
        """See `xdpdirector.state.denylist.DenyListStore`. SupersededError when `before` is not the fleet's list."""
        self.keep_some(before, kept, [*kept.denials, *(before.keys() - kept.denials.keys())])

    def keep_some(self, before: Denials, kept: StoredDenyList, touched: Collection[Prefix]) -> None:
        """See `keep`."""
        self._store.look()
        with self._turn:
            if before is not self._denials or self._table.state is not self._state:
                raise SupersededError("another director changed the deny list just now")
            is_first = self._state is None
            changes = {
                str(prefix): _document(kept.denials.get(prefix))
                for prefix in touched
                if is_first or _told(before.get(prefix)) != _told(kept.denials.get(prefix))
            }
            if changes or is_first:
                self._state = self._table.change(self._state, changes)
            self._denials = kept.denials
            self._keep_own(kept, touched)

    def _decode(self, state: TableState) -> None:
        """Only what changed since it was read last."""
        self._parts = tuple(
            self._parts[number] if name == self._ids[number] else _denials(state.part(number))
            for number, name in enumerate(state.ids)
        )
        self._ids = state.ids

    def _read_own(self) -> None:
        if not self._is_read:
            self._kept, self._is_read = self._own.load(), True

    def _keep_own(self, kept: StoredDenyList, touched: Collection[Prefix]) -> None:
        """What the configuration file has of these prefixes, and that it is merged."""
        after = dict(self._kept.denials)
        for prefix in touched:
            denial = kept.denials.get(prefix)
            if denial and denial.from_file:
                after[prefix] = denial
            else:
                after.pop(prefix, None)
        wanted = StoredDenyList(after, kept.file_digest)
        if wanted != self._kept:
            self._own.keep(self._kept.denials, wanted)
            self._kept = wanted


def _place(item: tuple[Prefix, Denial]) -> tuple[datetime, int, int, int]:
    """The oldest first; the same at all directors."""
    prefix, denial = item
    return denial.since, prefix.version, int(prefix.network_address), prefix.prefixlen


def _told(denial: Denial | None) -> Denial | None:
    """Without what concerns this director alone."""
    return denial and replace(denial, from_file=False)


def _document(denial: Denial | None) -> list[str] | None:
    return None if denial is None else [denial.reason, denial.author, denial.since.isoformat()]


def _denials(part: Mapping[str, Any]) -> dict[Prefix, Denial]:
    """ForeignStoreError."""
    try:
        return {
            parse_prefix(prefix): Denial(str(reason), str(author), datetime.fromisoformat(since))
            for prefix, (reason, author, since) in part.items()
        }
    except (ValueError, TypeError) as error:
        raise documents.foreign("the deny list") from error
