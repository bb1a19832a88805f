# SPDX-License-Identifier: Apache-2.0
"""A table in etcd that all directors of a fleet may change: keys with small documents.

    PREFIX/head/NAME       {"version": 12, "write": "...", "parts": ["id of part 0", "", ...]}
    PREFIX/NAME/ID         a part: {"key": document, ...}

A key's hash says its part. A part is never written again under the same id: a change writes those that it
touches under new ids, and then the head, in one transaction on the condition that the head is as it was. So a
change costs its parts and not the table, and one that is larger than a request of etcd is made all at once, too.
What is known is kept in a copy in this director's file. Knows nothing of what the documents say.
"""

from __future__ import annotations

import logging
import threading
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xdpdirector.errors import StoreError, SupersededError, UncertainError
from xdpdirector.storage.database import Database
from xdpdirector.storage.etcd import documents
from xdpdirector.storage.etcd.gateway import Document, Gateway, Item, delete, get, items, put, unchanged

PARTS = 32
_AT_ONCE = 512 << 10
"""Octets of parts in one request; etcd takes 1.5 MB."""
_STAGED = 120
"""Seconds that a part lives which no head has yet."""

Table = Mapping[str, Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableState:
    """What stands in a table. `version` counts its changes, `write` names the last one; `values`: the parts."""

    version: int
    write: str
    ids: tuple[str, ...]
    values: tuple[bytes, ...]

    def part(self, number: int) -> dict[str, Any]:
        """ForeignStoreError."""
        value = self.values[number]
        try:
            return dict(documents.decoded(value)) if value else {}
        except (ValueError, TypeError) as error:
            raise documents.foreign("a table") from error

    def table(self) -> dict[str, Any]:
        """All of it. ForeignStoreError."""
        return {key: value for number in range(len(self.ids)) for key, value in self.part(number).items()}


NOTHING = TableState(0, "", ("",) * PARTS, (b"",) * PARTS)


class SharedTable:
    """Threads may use it. `database`: the file that has the copy, or a StoreError."""

    def __init__(self, gateway: Gateway, prefix: str, name: str, database: Callable[[], Database]) -> None:
        self._gateway, self._name, self._database = gateway, name, database
        self.head_key, self._parts = f"{prefix}/head/{name}", f"{prefix}/{name}/"
        self._turn = threading.Lock()
        """Held while what is known is replaced; never while etcd is asked."""
        self.note = ""
        """Why the copy is not what is known; empty when it is."""
        self._changed = 0
        """The revision of etcd that wrote the head last."""
        self.state = self._read_copy()
        """What is known; None when nothing is, as when the fleet has no such table yet."""
        self.is_asked = False
        """Whether etcd said what it has, since the start."""

    def forget(self) -> None:
        """What is known is another fleet's, and its file is kept elsewhere."""
        with self._turn:
            self.state, self._changed, self.is_asked = None, 0, False

    # Keeping up

    def take(self, head: Item | None) -> bool:
        """Etcd has that head. Whether what is known now is what etcd has: else ask again. StoreError."""
        with self._turn:
            known = self.state
        if head is None:
            if known is None:
                self._changed, self.is_asked = 0, True
                return True
            self._put_back(known, 0)
            return False
        version, write, ids = self._head(head)
        if known and (known.version, known.write) == (version, write):
            with self._turn:
                if self.state is known:
                    self._changed, self.is_asked = head.changed, True
                    if known.ids != ids:  # another director put it back
                        self._set(TableState(version, write, ids, known.values))
            return True
        if known and version < known.version:
            self._put_back(known, head.changed)
            return False
        values = self._fetched(ids, known)
        if values is None:
            return False
        with self._turn:
            if self.state is known:
                self._changed, self.is_asked = head.changed, True
                self._set(TableState(version, write, ids, values))
                return True
        return False

    def _head(self, head: Item) -> tuple[int, str, tuple[str, ...]]:
        try:
            said = documents.decoded(head.value)
            return int(said["version"]), str(said["write"]), tuple(map(str, said["parts"]))
        except (ValueError, TypeError, KeyError) as error:
            raise documents.foreign(f"the table {self._name}") from error

    def _fetched(self, ids: tuple[str, ...], known: TableState | None) -> tuple[bytes, ...] | None:
        """None when another change replaced a part meanwhile."""
        have = dict(zip(known.ids, known.values, strict=True)) if known else {}
        have[""] = b""
        missing = [each for each in ids if each not in have]
        for each in missing:  # one by one: all together may be larger than an answer should be
            found = items(self._gateway.read(get(self._parts + each))[0])
            if not found:
                return None
            have[each] = found[0].value
        return tuple(have[each] for each in ids)

    def _put_back(self, known: TableState, changed: int) -> None:
        """Etcd lost what is known here: give it back. Another director may do the same."""
        parts = {number: value for number, value in enumerate(known.values) if value}
        renamed = TableState(
            known.version,
            known.write,
            tuple(uuid.uuid4().hex if value else "" for value in known.values),
            known.values,
        )
        if self._write(renamed, parts, (), changed) is not None:
            log.warning("etcd had lost the table %s: it is back, as this director knew it", self._name)

    # Writing

    def change(self, base: TableState | None, changes: Mapping[str, Any]) -> TableState:
        """Write these documents, and remove the keys whose document is None; what stands there then.
        SupersededError when the table is not as `base` any more; UncertainError; StoreError."""
        with self._turn:
            if base is not self.state:
                raise SupersededError("another director changed it just now")
            changed = self._changed
        before = base or NOTHING
        parts: dict[int, dict[str, Any]] = {}
        for key, document in changes.items():
            number = _part_of(key)
            if number not in parts:
                parts[number] = before.part(number)
            part = parts[number]
            if document is None:
                part.pop(key, None)
            else:
                part[key] = document
        values, ids = list(before.values), list(before.ids)
        for number, part in parts.items():
            values[number] = documents.encoded(part) if part else b""
            ids[number] = uuid.uuid4().hex if part else ""
        made = TableState(before.version + 1, uuid.uuid4().hex, tuple(ids), tuple(values))
        former = [before.ids[number] for number in parts if before.ids[number]]
        written = self._write(made, {number: values[number] for number in parts}, former, changed)
        if written is None:
            raise SupersededError("another director changed it just now")
        with self._turn:
            if self.state is base:
                self._changed = written
                self._set(made)
        return made

    def _write(
        self, made: TableState, parts: Mapping[int, bytes], former: list[str] | tuple[()], changed: int
    ) -> int | None:
        """The revision of etcd that it was written in; None when the head was another one."""
        said = {"version": made.version, "write": made.write, "parts": made.ids}
        operations = [
            put(self.head_key, documents.encoded(said)),
            *(delete(self._parts + each) for each in former),
        ]
        new = {self._parts + made.ids[number]: value for number, value in parts.items() if value}
        if sum(map(len, new.values())) <= _AT_ONCE:
            operations += [put(key, value) for key, value in new.items()]
        else:
            self._stage(new)
            operations += [put_again(key) for key in new]
        try:
            done, answers = self._gateway.transaction([unchanged(self.head_key, changed)], operations)
        except UncertainError:
            found = items(self._gateway.read(get(self.head_key))[0])
            if found and self._head(found[0])[:2] == (made.version, made.write):
                return found[0].changed
            if (found[0].changed if found else 0) == changed:
                raise  # it may come yet
            return None
        return int(answers[0]["header"]["revision"]) if done else None

    def _stage(self, new: Mapping[str, bytes]) -> None:
        """Write parts that are not the table's yet: they go by themselves, unless a head has them before."""
        lease, batch, size = self._gateway.grant(_STAGED), list[Document](), 0
        try:
            for key, value in new.items():
                if batch and size + len(value) > _AT_ONCE:
                    self._gateway.transaction([], batch)
                    batch, size = [], 0
                batch.append(put(key, value, lease))
                size += len(value)
            self._gateway.transaction([], batch)
        except UncertainError as error:
            raise StoreError(f"the change was not made: {error.detail}") from error

    # The copy

    def _set(self, made: TableState) -> None:
        """The lock is held."""
        before, self.state = self.state, made
        try:
            self._write_copy(before, made)
            self.note = ""
        except StoreError as error:
            self.note = f"what the fleet wants is not stored here: {error.detail}"

    def _write_copy(self, before: TableState | None, made: TableState) -> None:
        database = self._database()
        with database.transaction():
            database.write(
                "REPLACE INTO shared_heads (name, version, write) VALUES (?, ?, ?)",
                (self._name, made.version, made.write),
            )
            for number, (name, value) in enumerate(zip(made.ids, made.values, strict=True)):
                if self.note or before is None or before.ids[number] != name:
                    database.write(
                        "REPLACE INTO shared_parts (name, number, id, value) VALUES (?, ?, ?, ?)",
                        (self._name, number, name, value),
                    )

    def _read_copy(self) -> TableState | None:
        try:
            database = self._database()
            head = database.row("SELECT version, write FROM shared_heads WHERE name = ?", (self._name,))
            rows = database.rows(
                "SELECT id, value FROM shared_parts WHERE name = ? ORDER BY number", (self._name,)
            )
        except StoreError as error:
            self.note = f"what this director saw last cannot be read: {error.detail}"
            return None
        if head is None or not rows:
            return None
        ids, values = zip(*rows, strict=True)
        return TableState(head[0], head[1], ids, values)


def put_again(key: str) -> Document:
    """An operation of a transaction: the key keeps its value, and has no lease any more."""
    made = put(key, b"")
    made["request_put"].pop("value")
    made["request_put"]["ignore_value"] = True
    return made


def _part_of(key: str) -> int:
    return zlib.crc32(key.encode()) % PARTS
