# SPDX-License-Identifier: Apache-2.0
"""Persistence in connection sync: which backend a client keeps. Read once a second from the map `clients`.

The entry that was used last wins. Runs in the thread of the scanner; knows no sockets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import Array, Tables, dtype_of
from xdpdirector.sync.merged import Merged
from xdpdirector.sync.names import NOBODY, Translation

TABLE = "clients"
MOST_IDLE = 0xFFFFFFFF  # milliseconds
_REFRESH_AFTER = 10.0  # seconds: an entry used again is reported when so much later than before


def wire_type() -> np.dtype[Any]:
    """Integers in network byte order; `address`: masked, IPv4 in the first four octets; `idle`, `age`: milliseconds
    since it was used, and since it was made."""
    return np.dtype(
        [
            ("address", "u1", (16,)),
            ("ipv6", "u1"),
            ("proven", "u1"),
            ("service", ">u2"),
            ("backend", ">u2"),
            ("idle", ">u4"),
            ("age", ">u4"),
        ]
    )


class ClientTable:
    """The clients of one director, for its peers, and theirs."""

    def __init__(self, tables: Tables, clock: Clock) -> None:
        self._tables, self._clock = tables, clock
        said = tables.loaded.maps[TABLE]
        self._key, self._value = dtype_of(said["key"]), dtype_of(said["value"])
        self._reported = np.zeros(0, self._name_type())

    def any_persistent(self) -> bool:
        """Whether some service has persistence; else there is nothing to read."""
        flag = self._tables.enums["service_flags"]["SERVICE_PERSISTENT"]
        return bool((self._tables.services["flags"] & flag).any())

    def changed(self) -> Array:
        """Entries that are new, or used again, since the last call, as they go to peers."""
        entries = self._read()
        names = self._names(*entries)
        is_new = ~np.isin(names, self._reported)
        self._reported = names
        return self._wire(*(column[is_new] for column in entries))

    def all(self) -> Array:
        """All of them, as they go to peers."""
        return self._wire(*self._read())

    def merge(self, records: Array, translation: Translation) -> Merged:
        """Put a peer's entries into the map."""
        services = translation.services[records["service"]]
        backends = translation.backends[records["backend"]]
        known = (services != NOBODY) & (backends != NOBODY)
        result = Merged(unknown=int((~known).sum()))
        now, entries = self._clock.now(), {}
        for record, service, backend in zip(
            records[known], services[known].tolist(), backends[known].tolist(), strict=True
        ):
            key = np.zeros(1, self._key)
            key["address"] = np.frombuffer(record["address"].tobytes(), np.uint32)
            key["service"], key["ipv6"] = service, record["ipv6"]
            value = np.zeros(1, self._value)
            value["backend"], value["proven"] = backend, record["proven"]
            value["generation"] = self._tables.backends["generation"][backend]
            value["seen"] = now - self._jiffies(int(record["idle"])) & 0xFFFFFFFF
            value["since"] = now - self._jiffies(int(record["age"])) & 0xFFFFFFFF
            entries[key.tobytes()] = value
        for raw, value in entries.items():
            if not self._is_newer(raw, value, now):
                result.kept += 1
            elif self._tables.put_client(raw, value):
                result.updated += 1
            else:
                result.full += 1
        return result

    def _is_newer(self, key: bytes, value: Array, now: int) -> bool:
        found = self._tables.client(key)
        if found is None or int(found["generation"][0]) != int(
            self._tables.backends["generation"][int(found["backend"][0])]
        ):
            return True
        idle, ours = (now - int(each["seen"][0]) & 0xFFFFFFFF for each in (value, found))
        same = int(found["backend"][0]) == int(value["backend"][0])
        return idle + (self._clock.hz if same else 0) < ours

    def _read(self) -> tuple[Array, Array]:
        keys, values = [np.zeros(0, self._key)], [np.zeros(0, self._value)]
        for some_keys, some_values in self._tables.read(TABLE):
            keys.append(some_keys.copy())
            values.append(some_values.copy())
        return np.concatenate(keys), np.concatenate(values)

    def _names(self, keys: Array, values: Array) -> Array:
        """What an entry says, but for times, which count by steps."""
        joined = np.zeros(len(keys), self._joined())
        joined["key"], joined["backend"], joined["proven"] = keys, values["backend"], values["proven"]
        joined["turn"] = values["seen"] // max(1, int(_REFRESH_AFTER * self._clock.hz))
        names: Array = joined.view(self._name_type())
        return names

    def _joined(self) -> np.dtype[Any]:
        return np.dtype([("key", self._key), ("backend", "u2"), ("proven", "u2"), ("turn", "u4")])

    def _name_type(self) -> np.dtype[Any]:
        return np.dtype(f"S{self._joined().itemsize}")

    def _wire(self, keys: Array, values: Array) -> Array:
        generations = self._tables.backends["generation"][values["backend"]]
        kept = generations == values["generation"]
        keys, values = keys[kept], values[kept]
        records, now = np.zeros(len(keys), wire_type()), self._clock.now()
        records["address"] = np.ascontiguousarray(keys["address"]).view(np.uint8).reshape(len(keys), 16)
        records["ipv6"], records["service"] = keys["ipv6"], keys["service"]
        records["proven"], records["backend"] = values["proven"] != 0, values["backend"]
        for name, field in (("idle", "seen"), ("age", "since")):
            passed = (np.int64(now) - values[field].astype(np.int64)) & 0xFFFFFFFF
            passed = np.where(passed > 0x7FFFFFFF, 0, passed)  # another processor's jiffies were later
            records[name] = np.minimum(passed * 1000 // self._clock.hz, MOST_IDLE)
        return records

    def _jiffies(self, milliseconds: int) -> int:
        return min(milliseconds * self._clock.hz // 1000, 0x7FFFFFFF)
