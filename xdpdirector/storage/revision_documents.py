# SPDX-License-Identifier: Apache-2.0
"""The services of revisions as JSON: few as a whole; many as a difference to a whole that is stored now and then.
Else a change of one of thousands would write megabytes.

    revisions.document          with base NULL: {"services": {all of them}}
                                else, to the whole of that number: {"services": {changed or new}, "gone": [names]}
    documents.document          such a whole: {"services": {all of them}}

Knows the model and the tables; nothing of who made a revision.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import NamedTuple

from pydantic import TypeAdapter

from xdpdirector.model import ServiceSpec
from xdpdirector.model.checks import STORED
from xdpdirector.state.edits import Services, touched
from xdpdirector.storage.database import PAGE, Database

TABLES = (
    "CREATE TABLE documents (id INTEGER PRIMARY KEY, document TEXT NOT NULL)",
    "ALTER TABLE revisions ADD COLUMN base INTEGER",
    "CREATE INDEX revisions_base ON revisions (base)",
)
SMALL = PAGE
"""Characters of a document that is stored as a whole with its revision."""
PART = 32
"""A difference is shorter than the whole by this factor at least; else a new whole is written. So with s octets for
each of n services a change of another one each time writes n s / 64 octets, and n s in each (n / 32)th."""
_SERVICES = TypeAdapter(dict[str, ServiceSpec])
_SERVICE = TypeAdapter(ServiceSpec)


class Whole(NamedTuple):
    """A whole document that differences refer to; `length`: its characters."""

    id: int
    services: Mapping[str, ServiceSpec]
    length: int


class Written(NamedTuple):
    """What a revision's row says, and what `RevisionDocuments.keep` is told once it is stored. `differing`: the
    services, and the names of those that may differ from the whole."""

    document: str
    base: int | None
    whole: Whole | None
    differing: tuple[Services, frozenset[str]]


class RevisionDocuments:
    """Of one database. Threads may read while another one writes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._whole: Whole | None = None
        """What the next difference is made to."""
        self._differing: tuple[Services, frozenset[str]] = {}, frozenset()
        """See `Written`; of the last revision."""
        self._texts: dict[str, tuple[ServiceSpec, str]] = {}
        """Of the services in the last difference by name: what it is, and the member that says so."""

    def write(self, services: Services) -> Written:
        """In a transaction: what a revision of these services says. StoreError."""
        whole = self._whole
        if whole is not None:
            names = self._names(whole, services)
            text = self._difference(whole, services, names)
            if text is not None:
                return Written(text, whole.id, whole, (services, names))
        members = [_member(name, spec) for name, spec in services.items()]
        text = _document(members)
        if len(text) <= SMALL:
            return Written(text, None, None, ({}, frozenset()))
        number = self._database.write("INSERT INTO documents (document) VALUES (?)", (text,))
        whole = Whole(number, dict(services), len(text))
        return Written(_document(()), number, whole, (services, frozenset()))

    def is_kept(self, written: Written) -> bool:
        """Whether it refers to the same whole as the last one."""
        return written.whole is self._whole

    def keep(self, written: Written) -> None:
        """The transaction has succeeded."""
        if not self.is_kept(written):
            self._texts = {}
        self._whole, self._differing = written.whole, written.differing

    def forget_unused(self) -> None:
        """In a transaction: delete wholes that no revision refers to."""
        self._database.write(
            "DELETE FROM documents WHERE id NOT IN (SELECT base FROM revisions WHERE base IS NOT NULL)"
        )

    def read(self, document: str, base: int | None) -> dict[str, ServiceSpec]:
        """The services of a revision whose row says that. ValueError, KeyError or TypeError for what cannot be
        read; StoreError."""
        said = json.loads(document)
        services = _SERVICES.validate_python(said["services"], context=STORED)
        if base is None:
            return services
        gone = set(said.get("gone", ()))
        kept = {name: spec for name, spec in self._read_whole(base).items() if name not in gone}
        return kept | services

    def _read_whole(self, number: int) -> Mapping[str, ServiceSpec]:
        whole = self._whole
        if whole is not None and whole.id == number:
            return whole.services
        row = self._database.row("SELECT document FROM documents WHERE id = ?", (number,))
        if row is None:
            raise KeyError(number)
        services = _SERVICES.validate_python(json.loads(row[0])["services"], context=STORED)
        if whole is None:
            self._whole = Whole(number, services, len(row[0]))
        return services

    def _names(self, whole: Whole, services: Services) -> frozenset[str]:
        """Of those that may differ from the whole."""
        before, names = self._differing
        asked: Collection[str] = touched(before, services) if before else {*services, *whole.services}
        return names.union(
            name for name in asked if not _are_equal(services.get(name), whole.services.get(name))
        )

    def _difference(self, whole: Whole, services: Services, names: Collection[str]) -> str | None:
        """None when a whole is to be written."""
        if len(names) > len(services) // PART:
            return None
        gone = {name for name in names if name not in services}
        new = {name for name in names if name in services and name not in whole.services}
        stay = [name for name in whole.services if name not in gone] if gone else list(whole.services)
        added = [name for name in services if name in new] if new else []
        if [*stay, *added] != list(services):
            return None  # in another order
        changed = [*(name for name in sorted(names) if name in services and name not in new), *added]
        texts = {name: self._text(name, services[name]) for name in changed}
        text = _document([text for _, text in texts.values()], sorted(gone))
        self._texts = texts
        return text if len(text) <= whole.length // PART else None

    def _text(self, name: str, spec: ServiceSpec) -> tuple[ServiceSpec, str]:
        known = self._texts.get(name)
        return known if known and known[0] is spec else (spec, _member(name, spec))


def _member(name: str, spec: ServiceSpec) -> str:
    return f"{json.dumps(name)}: {_SERVICE.dump_json(spec).decode()}"


def _document(members: Collection[str], gone: Collection[str] = ()) -> str:
    said = f'"services": {{{", ".join(members)}}}'
    return f'{{{said}, "gone": {json.dumps(gone)}}}' if gone else f"{{{said}}}"


def _are_equal(one: ServiceSpec | None, other: ServiceSpec | None) -> bool:
    return one is other or one == other
