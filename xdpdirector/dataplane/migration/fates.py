# SPDX-License-Identifier: Apache-2.0
"""What becomes of each map, as far as the two layouts determine it: kept, converted or lost. Only reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from xdpdirector.dataplane.conntrack import bits_of
from xdpdirector.dataplane.maps import Array, dtype_of, elements
from xdpdirector.dataplane.migration.map_kinds import (
    BY_INDEX,
    BY_KEY,
    CONNECTIONS,
    DERIVED,
    HASHES,
    SCRATCH,
)
from xdpdirector.dataplane.migration.map_reader import flows, read
from xdpdirector.errors import ConflictError
from xdpdirector.loader.layout import Loaded

STATE_ARRAYS = {"timeouts", "stays"}
"""Fields of services that are arrays indexed by connection state."""
BY_PLACE = {"out"}
"""The field of fronts that is a bit mask of backends, by place: longer where a service may have more backends."""
BY_REASON = "by_reason"
"""The field of a service's drops that is an array indexed by reason, from the first that is one of drops on."""


@dataclass(frozen=True)
class Carried:
    """What happens to a map. `entries`: used entries; flows for a conntrack table."""

    name: str
    fate: Literal["kept", "converted", "lost"]
    entries: int
    why: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.entries} {self.fate}" + (f" ({self.why})" if self.why else "")


def fates(old: Loaded, new: Loaded) -> list[Carried]:
    """What happens to each map, as far as the layouts determine it."""
    return [_fate(old, new, name) for name in sorted(old.maps) if name not in SCRATCH | DERIVED]


def refuse_losses(plans: list[Carried]) -> None:
    """Raise ConflictError if established connections would be lost."""
    lost = [
        each
        for each in plans
        if each.fate == "lost" and each.entries and each.name in CONNECTIONS | {"clients"}
    ]
    if lost:
        raise ConflictError(
            "the new program cannot adopt all state of the running one: "
            f"{'; '.join(map(str, lost))}. Nothing that runs was changed. Drain first, or accept the loss with "
            "`xdpdirector load --lose-connections`"
        )


def _fate(old: Loaded, new: Loaded, name: str) -> Carried:
    entries = _entries(old, name)
    why = obstacle(old, new, name)
    if why:
        return Carried(name, "lost", entries, why)
    if name in CONNECTIONS:
        same = old.maps[name] == new.maps[name]
    else:
        same = all(old.maps[name][part] == new.maps[name][part] for part in ("key", "value"))
    return Carried(name, "kept" if same else "converted", entries)


def obstacle(old: Loaded, new: Loaded, name: str) -> str:
    if name not in new.maps:
        return "there is no such map any more"
    before, after = old.maps[name], new.maps[name]
    if name in CONNECTIONS:
        if not (_is_table(before) and _is_table(after) and "fronts" in old.maps):
            return "its records cannot be read"
        lacking = [field for field in bits_of(after["value"]) if field not in bits_of(before["value"])]
        return f"its records did not say: {', '.join(lacking)}" if lacking else ""
    if before["type"] != after["type"] and not {before["type"], after["type"]} <= HASHES:
        return "it is of another type"
    if reshaped := _reshaped(dtype_of(before["value"]), dtype_of(after["value"])):
        return f"fields of its values are of another shape: {', '.join(reshaped)}"
    if name in BY_KEY and before["key"] != after["key"]:
        return "its keys are other ones"
    if name in BY_KEY | BY_INDEX and (used := _entries(old, name)) > _room(after):
        is_shared_out = (
            int(before["max_entries"]) > 1 and -(-used // length_of_list(before)) <= after["max_entries"]
        )
        return "" if is_shared_out else f"there is room for {_room(after)}"
    return ""


def _reshaped(before: np.dtype[Any], after: np.dtype[Any]) -> list[str]:
    """Names of fields in both whose array shapes differ."""
    if before.subdtype and after.subdtype:
        before, after = before.subdtype[0], after.subdtype[0]
    found = []
    for name in common(before, after):
        old, new = before[name], after[name]
        is_copied = name in BY_PLACE or name == "of"  # element by element
        found += [name] if old.shape != new.shape and not is_copied else _reshaped(old, new)
    return found


def common(before: np.dtype[Any], after: np.dtype[Any]) -> list[str]:
    """Names of fields in both, except padding and arrays by state or reason."""
    names = set(before.names or ())
    passed_over = STATE_ARRAYS | {BY_REASON} | {name for name in names if name.startswith("pad")}
    return [name for name in after.names or () if name in names - passed_over]


def length_of_list(described: dict[str, Any]) -> int:
    """Elements of each value of a map; 1 unless its values are lists."""
    return len(elements(np.zeros(1, dtype_of(described["value"]))))


def _room(described: dict[str, Any]) -> int:
    """The capacity of a map in elements: entries, or list elements."""
    return int(described["max_entries"]) * length_of_list(described)


def _is_table(described: dict[str, Any]) -> bool:
    try:
        return bool(bits_of(described["value"]))
    except (KeyError, ValueError, StopIteration):
        return False


def _entries(loaded: Loaded, name: str) -> int:
    if name in CONNECTIONS:
        return sum(len(rows) for rows in flows(loaded, name)) if _is_table(loaded.maps[name]) else 0
    if name in BY_KEY:
        return sum(len(keys) for keys, _ in read(loaded, name))
    if name in BY_INDEX:
        return max((_last_used(keys, values) for keys, values in read(loaded, name)), default=0)
    return 0


def _last_used(keys: Array, values: Array) -> int:
    """One more than the index of the last entry that is not all zeros."""
    used = values.view(np.uint8).reshape(len(values), -1).any(axis=1)
    return int(keys[used].max()) + 1 if used.any() else 0
