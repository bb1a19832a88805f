# SPDX-License-Identifier: Apache-2.0
"""Copies maps whose entries keep their places: by index, by key, by CPU. Fields are matched by name: new fields
are 0, removed fields are dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from xdpdirector import libbpf
from xdpdirector.dataplane import service_plan
from xdpdirector.dataplane.listener_cache import ListenerCache
from xdpdirector.dataplane.maps import Array, Tables, dtype_of
from xdpdirector.dataplane.migration.fates import BY_PLACE, BY_REASON, STATE_ARRAYS, common, length_of_list
from xdpdirector.dataplane.migration.map_kinds import (
    BY_INDEX,
    BY_KEY,
    COUNTERS,
    INTERFACES,
    LISTS,
)
from xdpdirector.dataplane.migration.map_reader import read
from xdpdirector.loader.layout import Loaded
from xdpdirector.net import own_macs

_PORT = 4  # bytes of a key and of a value of `ports`


def copy(old: Loaded, new: Loaded, name: str) -> None:
    if name in COUNTERS:
        _copy_counters(old, new, name)
    elif name in INTERFACES:
        _copy_interfaces(old, new, name)
    elif name in LISTS:
        _copy_elements(old, new, name)
    elif name in BY_KEY | BY_INDEX:
        room, shape = new.maps[name]["max_entries"], dtype_of(new.maps[name]["value"])
        with libbpf.opened(new.pins / name) as fd:
            for keys, values in read(old, name):
                if name in BY_INDEX:
                    keys, values = keys[keys < room], values[keys < room]
                made = np.ascontiguousarray(converted(values, shape))
                _copy_state_arrays(old, new, values, made)
                if name == "services":
                    copy_admission(old, new, values, made)
                libbpf.update_batch(fd, keys.ctypes.data, made.ctypes.data, len(keys))


def converted(values: Array, wanted: np.dtype[Any]) -> Array:
    """The same values in another type: fields by name, numbers unchanged."""
    if values.dtype == wanted or not wanted.names:
        return values.astype(wanted)
    result = np.zeros(values.shape, wanted)
    for name in common(values.dtype, wanted):
        found = converted(values[name], wanted[name].base)
        if name in BY_PLACE:
            shared = min(found.shape[-1], result[name].shape[-1])
            result[name][..., :shared] = found[..., :shared]
        else:
            result[name] = found
    if "some_out" in wanted.names:
        result["some_out"] = result["out"].any(axis=-1)
    return result


def _copy_state_arrays(old: Loaded, new: Loaded, values: Array, made: Array) -> None:
    """Copy arrays indexed by connection state. States may be renumbered; a new state gets the value of a
    similar one."""
    before = old.enums["connection_state"]
    for field in STATE_ARRAYS & set(values.dtype.names or ()) & set(made.dtype.names or ()):
        for name, number in new.enums["connection_state"].items():
            like = next((known for known in _like(name) if known in before), None)
            if like is not None:
                made[field][:, number] = values[field][:, before[like]]


def _like(state: str) -> Iterator[str]:
    """The state itself, then the older states that it was split from."""
    yield state
    plain = state.replace("_ASSURED_", "_").replace("_USED_", "_")
    yield plain
    yield {"CONNECTION_DATAGRAM": "CONNECTION_UDP"}.get(plain, "CONNECTION_SYN")


def copy_admission(old: Loaded, new: Loaded, values: Array, made: Array) -> None:
    """Services of a program that had its bit for rate limits in `guard` stay limited until the daemon applies
    them."""
    limited = old.enums["guard_flags"].get("GUARD_LIMITS", 0)
    made["admission"][values["guard"] & limited != 0] |= new.enums["admission_flags"]["ADMIT_LIMITS"]
    made["guard"][values["guard"] & limited != 0] ^= limited


def _copy_elements(old: Loaded, new: Loaded, name: str) -> None:
    """Copy a map whose values are lists, which may be of another length."""
    before, after = (length_of_list(loaded.maps[name]) for loaded in (old, new))
    with Tables(new) as tables:
        target: Array = getattr(tables, name)[:]
        for keys, values in read(old, name):
            number, place = np.divmod(keys.astype(np.int64), before)
            fits = (place < after) & (number < len(target) // after)
            target[(number * after + place)[fits]] = converted(values[fits], target.dtype)
        if name == "loads" and old.maps[name] != new.maps[name]:
            target["served_correction"] = -target["served"]  # restart turns: old counters may have wrapped
        del target  # closing the tables unmaps the memory behind it


def _copy_counters(old: Loaded, new: Loaded, name: str) -> None:
    """Copy per-CPU counters CPU by CPU; verdicts by the name of their reason."""
    places = {index: index for index in range(old.maps[name]["max_entries"])}
    if name == "verdicts":
        after = new.enums["reason"]
        places = {index: after[reason] for reason, index in old.enums["reason"].items() if reason in after}
    before, shape = old.maps[name], dtype_of(new.maps[name]["value"])
    stride = (before["value_size"] + 7) & ~7
    with libbpf.opened(old.pins / name) as source, libbpf.opened(new.pins / name) as target:
        for index, place in places.items():
            if place >= new.maps[name]["max_entries"] or index >= before["max_entries"]:
                continue
            raw = libbpf.lookup(source, np.uint32(index).tobytes(), stride * libbpf.possible_cpus())
            if raw and any(raw):
                values = np.frombuffer(raw, dtype_of(before["value"], stride=stride))
                padded = np.zeros(
                    len(values), dtype_of(new.maps[name]["value"], stride=(shape.itemsize + 7) & ~7)
                )
                padded[:] = converted(values, padded.dtype)
                if name == "drops":
                    _copy_by_reason(old, new, values, padded)
                libbpf.update(target, np.uint32(place).tobytes(), padded.tobytes())


def _copy_by_reason(old: Loaded, new: Loaded, values: Array, made: Array) -> None:
    """Copy a service's drops by the names of their reasons: a new reason makes the array longer."""
    before, after = old.enums["reason"], new.enums["reason"]
    for reason in before.keys() & after.keys():
        source, target = (numbers[reason] - numbers["REJECT_EMPTY"] for numbers in (before, after))
        if 0 <= source < values[BY_REASON].shape[1] and 0 <= target < made[BY_REASON].shape[1]:
            made[BY_REASON][:, target] = values[BY_REASON][:, source]


def _copy_interfaces(old: Loaded, new: Loaded, name: str) -> None:
    with libbpf.opened(old.pins / name) as source, libbpf.opened(new.pins / name) as target:
        for index in range(min(old.maps[name]["max_entries"], new.maps[name]["max_entries"])):
            value = libbpf.lookup(source, np.int32(index).tobytes(), _PORT)
            if value and any(value):
                libbpf.update(target, np.int32(index).tobytes(), value)


def prepare_owners(new: Loaded) -> None:
    """Fill `owners` from the rings that were copied. Packets would look in these until the daemon does it."""
    with Tables(new) as tables:
        for entry in tables.services[tables.services["ring_slots"] > 0]:
            region = slice(int(entry["ring_start"]), int(entry["ring_start"] + entry["ring_slots"]))
            tables.owners[region][:] = service_plan.resting_owners(tables.ring[region])


def prepare_entrance(old: Loaded, new: Loaded) -> None:
    with Tables(new) as tables:
        listeners = tables.listeners()
        places = {entry: tables.place_of(entry)[0] for entry in listeners}
        ranged = {address for entry, address in places.items() if entry.map.startswith("ranges")}
        tables.set_vips(set(places.values()), ranged)
        ListenerCache(tables).fill(listeners)
        if "entrance" in old.maps:
            ((_, values),) = read(old, "entrance")
            own_macs.write(tables.stations, own_macs.read(values["own"]))
            if "reassembly" in (values.dtype.names or ()):
                tables.reassembly[0] = values["reassembly"][0]
