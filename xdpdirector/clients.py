# SPDX-License-Identifier: Apache-2.0
"""Persistence that lasts as long as a connection: the path renews a client's entry with each new connection, and
here it is renewed while a recorded one still runs. Knows the tables `clients` and connections, nothing else."""

from __future__ import annotations

import numpy as np

from xdpdirector.tables import Array, Tables, dtype_of


def renew(tables: Tables, rows: Array, now: int) -> None:
    """`rows`: living records of one family (`Records.read`); `now` in jiffies."""
    flag = tables.enums["service_flags"]["SERVICE_PERSISTENT"]
    kept = rows[(tables.services["flags"][rows["service"]] & flag) != 0]
    if len(kept):
        for client, backend in set(_clients(tables, kept)):
            tables.renew_client(client, backend, now)


def _clients(tables: Tables, rows: Array) -> list[tuple[bytes, int]]:
    """The keys in `clients` of these connections' clients, and the backends that they have."""
    found = np.zeros(len(rows), dtype_of(tables.loaded.maps["clients"]["key"]))
    services = tables.services[rows["service"]]
    if rows["client"].ndim == 2:
        found["address"] = rows["client"] & services["client_mask6"]
        found["ipv6"] = 1
    else:
        found["address"][:, 0] = rows["client"] & services["client_mask"]
    found["service"] = rows["service"]
    return [(key.tobytes(), int(backend)) for key, backend in zip(found, rows["backend"], strict=True)]
