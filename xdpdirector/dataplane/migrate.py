# SPDX-License-Identifier: Apache-2.0
"""Migrates map contents when the new program's map layout differs from the running one's.

Fields are matched by name: new fields are 0, removed fields are dropped. Connections go through the program
`adopt`, because the new table may have other buckets. Everything is first copied while the old program still
forwards, into maps that no packet sees, and records that do not fit are counted, so losses are known before
the switch. Once the new program forwards, `complete` copies the flows that arrived meanwhile. Until then,
copying can be repeated.

Knows layouts and bytes; does not know services, or when programs are attached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xdpdirector import libbpf
from xdpdirector.dataplane.conntrack import TABLES, bits_of
from xdpdirector.dataplane.listener_cache import ListenerCache
from xdpdirector.dataplane.maps import Array, Tables, dtype_of, elements
from xdpdirector.errors import ConflictError
from xdpdirector.loader import build, layout
from xdpdirector.loader.layout import Loaded
from xdpdirector.net import own_macs
from xdpdirector.paths import InstancePaths

CONNECTIONS = set(TABLES)
BY_INDEX = {"services", "ring", "members", "backends", "loads", "fronts", "service_labels", "backend_labels",
            "limits", "paid", "departed"}  # fmt: skip
LISTS = {"members", "loads"}
"""Maps of BY_INDEX whose values are lists; their elements are numbered consecutively."""
BY_KEY = {"vips", "listeners4", "listeners6", "ranges4", "ranges6", "clients", "newcomers", "fragments", "senders",
          "denied4", "denied6", "sources", "openings",
          "secondary_macs"}  # fmt: skip
COUNTERS = {"traffic", "denials", "refusals", "verdicts", "turned_away"}
HASHES = {libbpf.MapType.HASH, libbpf.MapType.LRU_HASH}
"""Map types whose entries can be copied to one another."""
INTERFACES = {"ports"}
DERIVED = {"entrance"}
"""Maps derived from others: rebuilt, except for this machine's MACs."""
SCRATCH = {"stages", "asides", "explanations", "traces", "tellings", "drafts", "decisions", "allowances", "resets",
"reaping", "adopting", "merging", "merge_at"}  # fmt: skip
"""Working memory of programs; not migrated."""

_NOTHING_TO_LOSE = {"CONNECTION_CLOSED", "CONNECTION_SYN", "CONNECTION_MIDSTREAM", "CONNECTION_DATAGRAM"}
"""States of flows with a single packet, or ended by a RST: no loss if dropped."""
STATE_ARRAYS = {"timeouts", "stays"}
"""Fields of services that are arrays indexed by connection state."""
_BATCH = 4096
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_PORT = 4  # bytes of a key and of a value of `ports`


@dataclass(frozen=True)
class Carried:
    """What happens to a map. `entries`: used entries; flows for a conntrack table."""

    name: str
    fate: Literal["kept", "converted", "lost"]
    entries: int
    why: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.entries} {self.fate}" + (f" ({self.why})" if self.why else "")


def predecessor(paths: InstancePaths, loaded: Loaded) -> Loaded | None:
    """The previously running layout, if its maps differ from those of `loaded` and still exist."""
    return next((found for found in layout.set_aside(paths) if found.pins != loaded.pins), None)


def running_otherwise(paths: InstancePaths, pins: Path) -> Loaded | None:
    """The running layout, if the coming program would have its maps elsewhere, at `pins`."""
    candidates = [build.running(paths), *layout.set_aside(paths)]
    return next((found for found in candidates if found and found.pins != pins and found.pins.is_dir()), None)


def plan(old: Loaded, new: Loaded) -> list[Carried]:
    """What would happen to each map. Copies connections on trial, into maps that no packet sees."""
    plans = _fates(old, new)
    for name in ("services", "fronts"):
        if not _obstacle(old, new, name):
            _copy(old, new, name)
    return _with_unplaced(plans, _adopt_afresh(old, new), new)


def _fates(old: Loaded, new: Loaded) -> list[Carried]:
    """What happens to each map, as far as the layouts determine it."""
    return [_fate(old, new, name) for name in sorted(old.maps) if name not in SCRATCH | DERIVED]


def _with_unplaced(plans: list[Carried], unplaced: Mapping[str, int], new: Loaded) -> list[Carried]:
    found = []
    for each in plans:
        lost = unplaced.get(each.name, 0)
        found.append(replace(each, entries=each.entries - lost))
        if lost:
            room = getattr(new.sizes, each.name.removesuffix("4"))
            found.append(
                Carried(each.name, "lost", lost, f"there is no place for them in a table for {room}")
            )
    return found


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


def carry(paths: InstancePaths, loaded: Loaded, *, lose: bool = False) -> list[Carried]:
    """Copy everything that can be copied into maps that no packet sees yet; empty without a predecessor.

    ConflictError when connections would be lost and `lose` is false.
    """
    old = predecessor(paths, loaded)
    if old is None:
        return []
    plans = _fates(old, loaded)
    if not lose:
        refuse_losses(plans)
    for each in plans:
        if each.fate != "lost" and each.name not in CONNECTIONS:
            _copy(old, loaded, each.name)
    _prepare_entrance(old, loaded)
    plans = _with_unplaced(plans, _adopt_afresh(old, loaded), loaded)
    if not lose:
        refuse_losses(plans)
    return plans


@dataclass(frozen=True)
class Completed:
    """`records`: records of the old program; `unplaced`: connections among them that do not fit into the new
    table."""

    records: int
    unplaced: int


def complete(paths: InstancePaths, loaded: Loaded) -> Completed:
    """Copy the flows that the old program saw since `carry`; call it once the new program forwards.

    Records that the new program made itself are not changed.
    """
    old = predecessor(paths, loaded)
    if old is None:
        return Completed(0, 0)
    adopted = _adopt(old, loaded)
    return Completed(adopted.records, sum(_unplaced(adopted, loaded).values()))


# What can be carried


def _fate(old: Loaded, new: Loaded, name: str) -> Carried:
    entries = _entries(old, name)
    why = _obstacle(old, new, name)
    if why:
        return Carried(name, "lost", entries, why)
    if name in CONNECTIONS:
        same = old.maps[name] == new.maps[name]
    else:
        same = all(old.maps[name][part] == new.maps[name][part] for part in ("key", "value"))
    return Carried(name, "kept" if same else "converted", entries)


def _obstacle(old: Loaded, new: Loaded, name: str) -> str:
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
    if name in BY_KEY | BY_INDEX and _entries(old, name) > _room(after):
        return f"there is room for {_room(after)}"
    return ""


def _reshaped(before: np.dtype[Any], after: np.dtype[Any]) -> list[str]:
    """Names of fields in both whose array shapes differ."""
    if before.subdtype and after.subdtype:
        before, after = before.subdtype[0], after.subdtype[0]
    found = []
    for name in _common(before, after):
        old, new = before[name], after[name]
        is_list = name == "of"  # copied element by element
        found += [name] if old.shape != new.shape and not is_list else _reshaped(old, new)
    return found


def _common(before: np.dtype[Any], after: np.dtype[Any]) -> list[str]:
    """Names of fields in both, except padding and arrays by state."""
    names = set(before.names or ())
    passed_over = STATE_ARRAYS | {name for name in names if name.startswith("pad")}
    return [name for name in after.names or () if name in names - passed_over]


def _room(described: dict[str, Any]) -> int:
    """The capacity of a map in elements: entries, or list elements."""
    return int(described["max_entries"]) * len(elements(np.zeros(1, dtype_of(described["value"]))))


def _is_table(described: dict[str, Any]) -> bool:
    try:
        return bool(bits_of(described["value"]))
    except (KeyError, ValueError, StopIteration):
        return False


def _entries(loaded: Loaded, name: str) -> int:
    if name in CONNECTIONS:
        return sum(len(rows) for rows in _flows(loaded, name)) if _is_table(loaded.maps[name]) else 0
    if name in BY_KEY:
        return sum(len(keys) for keys, _ in _read(loaded, name))
    if name in BY_INDEX:
        return max((_last_used(keys, values) for keys, values in _read(loaded, name)), default=0)
    return 0


def _last_used(keys: Array, values: Array) -> int:
    """One more than the index of the last entry that is not all zeros."""
    used = values.view(np.uint8).reshape(len(values), -1).any(axis=1)
    return int(keys[used].max()) + 1 if used.any() else 0


# Copying


def _read(loaded: Loaded, name: str) -> Iterator[tuple[Array, Array]]:
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


def converted(values: Array, wanted: np.dtype[Any]) -> Array:
    """The same values in another type: fields by name, numbers unchanged."""
    if values.dtype == wanted or not wanted.names:
        return values.astype(wanted)
    result = np.zeros(values.shape, wanted)
    for name in _common(values.dtype, wanted):
        result[name] = converted(values[name], wanted[name].base)
    return result


def _copy(old: Loaded, new: Loaded, name: str) -> None:
    if name in COUNTERS:
        _copy_counters(old, new, name)
    elif name in INTERFACES:
        _copy_interfaces(old, new, name)
    elif name in LISTS:
        _copy_elements(old, new, name)
    elif name in BY_KEY | BY_INDEX:
        room, shape = new.maps[name]["max_entries"], dtype_of(new.maps[name]["value"])
        with libbpf.opened(new.pins / name) as fd:
            for keys, values in _read(old, name):
                if name in BY_INDEX:
                    keys, values = keys[keys < room], values[keys < room]
                made = np.ascontiguousarray(converted(values, shape))
                _copy_state_arrays(old, new, values, made)
                libbpf.update_batch(fd, keys.ctypes.data, made.ctypes.data, len(keys))


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


def _copy_elements(old: Loaded, new: Loaded, name: str) -> None:
    """Copy a map whose values are lists."""
    with Tables(new) as tables:
        target: Array = getattr(tables, name)
        for keys, values in _read(old, name):
            fits = keys < len(target)
            target[keys[fits]] = converted(values[fits], target.dtype)
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
                libbpf.update(target, np.uint32(place).tobytes(), padded.tobytes())


def _copy_interfaces(old: Loaded, new: Loaded, name: str) -> None:
    with libbpf.opened(old.pins / name) as source, libbpf.opened(new.pins / name) as target:
        for index in range(min(old.maps[name]["max_entries"], new.maps[name]["max_entries"])):
            value = libbpf.lookup(source, np.int32(index).tobytes(), _PORT)
            if value and any(value):
                libbpf.update(target, np.int32(index).tobytes(), value)


def _prepare_entrance(old: Loaded, new: Loaded) -> None:
    with Tables(new) as tables:
        listeners = tables.listeners()
        places = {entry: tables.place_of(entry)[0] for entry in listeners}
        ranged = {address for entry, address in places.items() if entry.map.startswith("ranges")}
        tables.set_vips(set(places.values()), ranged)
        ListenerCache(tables).fill(listeners)
        if "entrance" in old.maps:
            ((_, values),) = _read(old, "entrance")
            own_macs.tell(tables.stations, own_macs.told(values["own"]))
            if "reassembly" in (values.dtype.names or ()):
                tables.reassembly[0] = values["reassembly"][0]


# Connections


def _flows(loaded: Loaded, name: str) -> Iterator[Array]:
    """Batches of used entries; columns `entry` and `word` (the record)."""
    for _, buckets in _read(loaded, name):
        entries = buckets["entries"]
        words = buckets.view(np.uint64).reshape(*entries.shape, -1)[..., -1]
        rows = np.zeros(int((words > 1).sum()), [("entry", entries.dtype), ("word", "u8")])
        rows["entry"], rows["word"] = entries[words > 1], words[words > 1]
        if len(rows):
            yield rows


_ONCE = {"CONNECTION_ESTABLISHED": "CONNECTION_MIDSTREAM", "CONNECTION_UDP": "CONNECTION_DATAGRAM"}
"""States that older layouts combined with a `pending` bit, for flows with a single packet."""


def translated(old: Loaded, new: Loaded, name: str, words: Array) -> Array:
    """The records in the new layout: fields moved to their new bits, states translated by name."""
    before, after = (bits_of(each.maps[name]["value"]) for each in (old, new))
    result = np.zeros(len(words), np.uint64)
    for field, (shift, width) in after.items():
        value = _field(words, before[field])
        if field == "state":
            pending = _field(words, before["pending"]) if "pending" in before else np.zeros_like(words)
            value = _states(old, new)[value, pending]
        result |= (value & np.uint64((1 << width) - 1)) << np.uint64(shift)
    return result


def _field(words: Array, bits: tuple[int, int]) -> Array:
    shift, width = bits
    value: Array = words >> np.uint64(shift) & np.uint64((1 << width) - 1)
    return value


def _states(old: Loaded, new: Loaded) -> Array:
    """New state number by [old number, pending]. 0, an unused record, if the state no longer exists."""
    numbers = new.enums["connection_state"]
    table = np.zeros((1 << 8, 2), np.uint64)
    for name, number in old.enums["connection_state"].items():
        table[number] = numbers.get(name, 0), numbers.get(_ONCE.get(name, name), 0)
    return table


@dataclass(frozen=True)
class _Adopted:
    """`records`: number of records passed to `adopt`. `running`: by table, the `_numbers` of connections that
    must not be lost."""

    records: int
    running: Mapping[str, Array]


def _adopt(old: Loaded, new: Loaded) -> _Adopted:
    """Copy every flow of the old table that the new table does not have. `complete` copies those that arrive
    meanwhile."""
    total, running = 0, {}
    with ExitStack() as stack:
        tables = stack.enter_context(Tables(new))
        program = stack.enter_context(libbpf.opened(new.program.with_name("adopt")))
        for name in sorted(CONNECTIONS):
            if _obstacle(old, new, name):
                continue
            numbers = [np.zeros(0, np.uint64)]
            for rows in _flows(old, name):
                words = translated(old, new, name, rows["word"])
                _hand_in(tables, rows["entry"], words, lambda: libbpf.prog_test_run(program, bytes(64)))
                total += len(rows)
                numbers.append(_numbers(old, name, rows[_running(old, name, rows)]))
            running[name] = np.concatenate(numbers)
    return _Adopted(total, running)


def _adopt_afresh(old: Loaded, new: Loaded) -> dict[str, int]:
    """Clear the new tables, which no packet sees, and copy all flows; returns by table how many connections
    did not fit. Without clearing, records of an earlier trial would be taken for the new program's own."""
    with Tables(new) as tables:
        for name in CONNECTIONS:
            tables.clear(name)
    return _unplaced(_adopt(old, new), new)


def _unplaced(adopted: _Adopted, new: Loaded) -> dict[str, int]:
    """By table: copied connections that are missing in the new table."""
    found = {}
    for name, wanted in adopted.running.items():
        there = [_numbers(new, name, rows) for rows in _flows(new, name)]
        found[name] = int((~np.isin(wanted, np.concatenate([np.zeros(0, np.uint64), *there]))).sum())
    return found


def _running(loaded: Loaded, name: str, rows: Array) -> Array:
    """True for connections that must not be lost: with more than one packet, and not ended by a RST."""
    bits, numbers = bits_of(loaded.maps[name]["value"]), loaded.enums["connection_state"]
    states = _field(rows["word"], bits["state"])
    idle = np.isin(states, [numbers[state] for state in _NOTHING_TO_LOSE if state in numbers])
    if "pending" in bits:
        idle |= _field(rows["word"], bits["pending"]) != 0
    running: Array = ~idle
    return running


def _numbers(loaded: Loaded, name: str, rows: Array) -> Array:
    """A hash that identifies each flow."""
    if not len(rows):
        return np.zeros(0, np.uint64)
    entries = rows["entry"]
    number = _field(rows["word"], bits_of(loaded.maps[name]["value"])["front"])
    words = entries["client"].reshape(len(rows), -1).astype(np.uint64)
    ports = entries["client_port"].astype(np.uint64) << np.uint64(16) | entries["port"]
    for word in (*words.T, ports):
        number = (number ^ number >> np.uint64(29) ^ word) * _FACTOR
    return number


def _hand_in(tables: Tables, entries: Array, words: Array, run: Callable[[], object]) -> None:
    adopting = tables.adopting
    is_ipv6 = entries["client"].ndim == 2
    for start in range(0, len(entries), len(adopting)):
        some = entries[start : start + len(adopting)]
        adopting["word"] = 0
        adopting["client"] = 0
        if is_ipv6:
            adopting["client"][: len(some)] = some["client"]
        else:
            adopting["client"][: len(some), 0] = some["client"]
        adopting["client_port"][: len(some)], adopting["port"][: len(some)] = (
            some["client_port"],
            some["port"],
        )
        adopting["ipv6"] = is_ipv6
        adopting["word"][: len(some)] = words[start : start + len(some)]
        run()
