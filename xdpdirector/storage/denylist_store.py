# SPDX-License-Identifier: Apache-2.0
"""The deny list in the state database. Knows the list and SQL; nothing of packets."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime

from xdpdirector.errors import StoreError
from xdpdirector.model.guard import Prefix, parse_prefix
from xdpdirector.state.denylist import Denial, Denials, StoredDenyList
from xdpdirector.storage.database import Database

_COLUMNS = "prefix, reason, author, since, from_file"


class SqliteDenyList:
    """A `xdpdirector.state.denylist.DenyListStore`. `database`: the one that can be written now, or a StoreError;
    its tables are made by `xdpdirector.storage.store`."""

    def __init__(self, database: Callable[[], Database]) -> None:
        self._database = database

    def load(self) -> StoredDenyList:
        database = self._database()
        file = database.row("SELECT digest FROM denied_file")
        try:
            denials = {
                parse_prefix(prefix): Denial(reason, author, datetime.fromisoformat(since), bool(from_file))
                for prefix, reason, author, since, from_file in database.rows(
                    f"SELECT {_COLUMNS} FROM denied ORDER BY rowid"
                )
            }
        except ValueError as error:
            about = f"the deny list in {database.path} cannot be read by this release"
            raise StoreError(f"{about}: {error}") from error
        return StoredDenyList(denials, file[0] if file else None)

    def keep(self, before: Denials, kept: StoredDenyList) -> None:
        self.keep_some(before, kept, [*kept.denials, *(before.keys() - kept.denials.keys())])

    def keep_some(self, before: Denials, kept: StoredDenyList, touched: Collection[Prefix]) -> None:
        database = self._database()
        with database.transaction():
            for prefix in touched:
                denial = kept.denials.get(prefix)
                if denial is None:
                    database.write("DELETE FROM denied WHERE prefix = ?", (str(prefix),))
                elif before.get(prefix) != denial:
                    _write(database, prefix, denial)
            database.write("UPDATE denied_file SET digest = ?", (kept.file_digest,))


def _write(database: Database, prefix: Prefix, denial: Denial) -> None:
    values = (str(prefix), denial.reason, denial.author, denial.since.isoformat(), denial.from_file)
    database.write(f"REPLACE INTO denied ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)", values)
