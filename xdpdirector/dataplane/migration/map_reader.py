# SPDX-License-Identifier: Apache-2.0
"""Reads what is in a map of any layout, in batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xdpdirector import libbpf
from xdpdirector.dataplane.maps import Array, dtype_of, elements
from xdpdirector.dataplane.migration.map_kinds import BY_INDEX, CONNECTIONS, DERIVED
from xdpdirector.loader.layout import Loaded

_BATCH = 4096


def read(loaded: Loaded, name: str) -> Iterator[tuple[Array, Array]]:
    """Keys and values in batches; for lists, element numbers and elements."""
    said = loaded.maps[name]
    batch = min(_BATCH, said["max_entries"]) if name in BY_INDEX | CONNECTIONS | DERIVED else _BATCH
    keys, values = (np.zeros(batch, dtype_of(said[part])) for part in ("key", "value"))
    with libbpf.opened(loaded.pins / name) as fd:
        for count in libbpf.lookup_batches(fd, keys.ctypes.data, values.ctypes.data, batch):
            found = elements(values[:count])
            if len(found) == count:
                yield keys[:count], found
            else:
                each = len(found) // count
                yield (keys[:count, None] * each + np.arange(each, dtype=keys.dtype)).reshape(-1), found


def flows(loaded: Loaded, name: str) -> Iterator[Array]:
    """Batches of used entries; columns `entry` and `word` (the record)."""
    for _, buckets in read(loaded, name):
        entries = buckets["entries"]
        words = buckets.view(np.uint64).reshape(*entries.shape, -1)[..., -1]
        rows = np.zeros(int((words > 1).sum()), [("entry", entries.dtype), ("word", "u8")])
        rows["entry"], rows["word"] = entries[words > 1], words[words > 1]
        if len(rows):
            yield rows
