# SPDX-License-Identifier: Apache-2.0
"""The tokens of a fleet, in etcd, beside those that a director made for itself before it had a fleet.

New ones are the fleet's. Digests only, as in a file; knows nothing of a token's text.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

from xdpdirector.errors import StoreError, SupersededError
from xdpdirector.storage.etcd import documents
from xdpdirector.storage.etcd.fleet_store import FleetStore
from xdpdirector.storage.etcd.shared_table import TableState
from xdpdirector.storage.token_store import StoredToken, TokenStore


class FleetTokens:
    """A `xdpdirector.storage.token_store.TokenStore`. Threads may use it. `own`: this director's."""

    def __init__(self, store: FleetStore, own: TokenStore) -> None:
        self._store, self._table, self._own = store, store.tokens, own
        self._turn = threading.RLock()
        self._read: tuple[TableState | None, dict[str, StoredToken]] = (None, {})
        """What the table says, and of which state."""
        self._base: TableState | None = None
        self._used: dict[str, str] = {}
        """By id, when tokens were used here last, as far as the fleet does not know it yet."""

    def find(self, public: str) -> StoredToken | None:
        return self._shown(self._shared().get(public)) or self._own.find(public)

    def named(self, name: str) -> StoredToken | None:
        found = next((each for each in self._shared().values() if each.name == name), None)
        return self._shown(found) or self._own.named(name)

    def all(self) -> list[StoredToken]:
        shared = [replace(each, used=self._used.get(each.id, each.used)) for each in self._shared().values()]
        return sorted([*shared, *self._own.all()], key=lambda each: each.name)

    @contextmanager
    def changing(self) -> Iterator[None]:
        self._store.look()
        self._store.refresh()
        with self._turn:
            self._base = self._table.state
            yield

    def add(self, token: StoredToken) -> None:
        self._table.change(self._base, {token.id: _document(token)})

    def remove(self, token: StoredToken) -> None:
        if token.id in self._shared():
            self._table.change(self._base, {token.id: None})
        else:
            with self._own.changing():
                self._own.remove(token)

    def note_use(self, token: StoredToken, when: datetime) -> None:
        """The fleet is told later, by `tell_uses`: a request does not wait for etcd."""
        if token.id in self._shared():
            self._used[token.id] = when.isoformat()
        else:
            self._own.note_use(token, when)

    def tell_uses(self) -> None:
        """Tell the fleet which tokens were used here. What fails is told the next time."""
        noted = dict(self._used)
        if not noted:
            return
        state, shared = self._table.state, self._shared()
        changes = {
            public: _document(replace(shared[public], used=max(when, shared[public].used or "")))
            for public, when in noted.items()
            if public in shared
        }
        try:
            if changes:
                self._table.change(state, changes)
        except (StoreError, SupersededError):
            return
        for public, when in noted.items():
            if self._used.get(public) == when:
                del self._used[public]

    def _shown(self, token: StoredToken | None) -> StoredToken | None:
        return token and replace(token, used=self._used.get(token.id, token.used))

    def _shared(self) -> dict[str, StoredToken]:
        """By id."""
        state = self._table.state
        read, tokens = self._read
        if read is not state:
            tokens = {key: _token(key, said) for key, said in state.table().items()} if state else {}
            self._read = state, tokens
        return tokens


def _document(token: StoredToken) -> dict[str, Any]:
    said = {name: value for name, value in vars(token).items() if name != "id"}
    return said | {"digest": token.digest.hex()}


def _token(public: str, said: Mapping[str, Any]) -> StoredToken:
    """ForeignStoreError."""
    try:
        fields = {name: said[name] for name in ("name", "role", "created", "expires", "used")}
        datetime.fromisoformat(fields["created"])
        return StoredToken(id=public, digest=bytes.fromhex(said["digest"]), **fields)
    except (ValueError, TypeError, KeyError) as error:
        raise documents.foreign("a token") from error
