# SPDX-License-Identifier: Apache-2.0
"""Persistence that lasts as long as a connection: the path renews a client's entry with each new connection, and
here it is renewed while a recorded one still runs. Knows the tables `clients` and connections, nothing else."""

from __future__ import annotations

import numpy as np

from xdpdirector.tables import Array, Tables, dtype_of


def renew(tables: Tables, keys: Array, values: Array, now: int) -> None:
    """`keys`, `values`: living records of one table of connections; `now` in jiffies."""
    flag = tables.enums["service_flags"]["SERVICE_PERSISTENT"]
    kept = (tables.services["flags"][values["service"]] & flag) != 0
    if not kept.any():
        return
    for client, backend in set(_clients(tables, keys[kept], values[kept])):
        tables.renew_client(client, backend, now)


def _clients(tables: Tables, keys: Array, values: Array) -> list[tuple[bytes, int]]:
    """The keys in `clients` of these connections' clients, and the backends that they have."""
    found = np.zeros(len(keys), dtype_of(tables.loaded.maps["clients"]["key"]))
    services = tables.services[values["service"]]
    if keys["client"].ndim == 2:
        found["address"] = keys["client"] & services["client_mask6"]
        found["ipv6"] = 1
    else:
        found["address"][:, 0] = keys["client"] & services["client_mask"]
    found["service"] = values["service"]
    return [(key.tobytes(), int(backend)) for key, backend in zip(found, values["backend"], strict=True)]
