# SPDX-License-Identifier: Apache-2.0
"""The pinned maps as typed numpy views. Types come from layout.json, which the loader derives from the C
structs.

Knows bytes, byte order and the kernel; does not know services, health or the order of changes. A shared array
is memory that packets read and write: an aligned 8-byte store is atomic for them. Packets see stores in the order
in which they were made if `barrier` stands between them; an update by system call (`bpf_map_update_elem` of a
hash map or a trie) is seen behind them by itself, as the kernel publishes entries by `rcu_assign_pointer`.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache, reduce
from ipaddress import ip_address
from operator import xor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from xdpdirector import libbpf
from xdpdirector.dataplane import percpu
from xdpdirector.dataplane.map_windows import Windows
from xdpdirector.errors import DataplaneError
from xdpdirector.loader.layout import Loaded
from xdpdirector.model.listener import PROTOCOLS, Address, Listener, Ports
from xdpdirector.system.memory_order import barrier

Array: TypeAlias = npt.NDArray[Any]

_SCALARS = {
    "u8": "u1",
    "u16": "u2",
    "u32": "u4",
    "u64": "u8",
    "s8": "i1",
    "s16": "i2",
    "s32": "i4",
    "s64": "i8",
}
_BATCH = 16384


def dtype_of(shape: dict[str, Any], *, stride: int | None = None) -> np.dtype[Any]:
    """The numpy type of a scalar or struct of layout.json. `stride`: distance of array elements, in bytes."""
    if "fields" not in shape:
        scalar = np.dtype(_SCALARS[shape["type"]])
        return scalar if not stride or stride == scalar.itemsize else _padded(scalar, stride)
    names, formats, offsets = [], [], []
    for field in shape["fields"]:
        names.append(field["name"])
        offsets.append(field["offset"])
        formats.append(_format(field))
    spec = {"names": names, "formats": formats, "offsets": offsets, "itemsize": stride or shape["size"]}
    return np.dtype(spec)  # type: ignore[call-overload,no-any-return]


def _padded(scalar: np.dtype[Any], stride: int) -> np.dtype[Any]:
    return np.dtype({"names": ["value"], "formats": [scalar], "offsets": [0], "itemsize": stride})


def _format(field: dict[str, Any]) -> Any:
    if field["type"] == "bytes":
        return f"S{field['size']}"
    if isinstance(field["type"], dict):
        base: Any = dtype_of(field["type"])
    else:
        base = np.dtype(_SCALARS[field["type"]])
    return (base, (field["count"],)) if field.get("count") else base


def address_words(address: Address) -> tuple[int, ...]:
    """The address as 32-bit words in the byte order of the packet."""
    packed = address.packed
    return tuple(int.from_bytes(packed[i : i + 4], sys.byteorder) for i in range(0, len(packed), 4))


def vip_key(address: Address) -> bytes:
    """The key in the map `vips`. An IPv4 address becomes an IPv4-mapped one (RFC 4291, 2.5.5.2)."""
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


def filter_place(address: Address) -> int:
    """The position of its mark in the VIP filter: 32 marks of two bits per word, as in bpf/listener.h
    `vip_filter_marks`."""
    hashed = reduce(xor, address_words(address))
    return (hashed ^ hashed >> 16) & 0xFFFF


def network16(number: int) -> int:
    """A port as the 16-bit number that the program reads from a packet."""
    return int.from_bytes(number.to_bytes(2, "big"), sys.byteorder)


class Entry(NamedTuple):
    """A key in one of the listener maps."""

    map: str
    key: bytes


def port_prefixes(ports: Ports) -> Iterator[tuple[int, int]]:
    """The fewest prefixes that cover a range of ports: (first port, bits)."""
    first, last = ports
    while first <= last:
        size = first & -first or 1 << 16
        while first + size - 1 > last:
            size >>= 1
        yield first, 17 - size.bit_length()
        first += size


def count_of(load: Any, name: str) -> int:
    """A count of `struct load` plus its correction, wrapped to the width of the field."""
    return _in_width(int(load[name]) + int(load[f"{name}_correction"]), load[name])


def correct(load: Any, name: str, by: int) -> None:
    """Add `by` to the correction, which only the daemon writes."""
    field = f"{name}_correction"
    load[field] = _in_width(int(load[field]) + by, load[field])


def _in_width(number: int, like: Any) -> int:
    """Wrap to the width of a signed field, as the processor does."""
    half: int = 1 << 8 * int(like.dtype.itemsize) - 1
    return (number + half) % (2 * half) - half


def elements(values: Array) -> Array:
    """For list values (one field, `of`): their elements, numbered consecutively. Other values unchanged."""
    return values["of"].reshape(-1) if values.dtype.names == ("of",) else values


def elements_of(kind: np.dtype[Any]) -> np.dtype[Any]:
    """The type of the elements of list values (see `elements`). Other types unchanged."""
    return kind["of"].base if kind.names == ("of",) else kind


class Tables:
    """Opens all maps of a loaded data plane. Close it, or use it as a context manager."""

    def __init__(self, loaded: Loaded) -> None:
        """DataplaneError when a map is missing or does not match the layout."""
        self.loaded = loaded
        self.enums = loaded.enums
        self._fds: dict[str, int] = {}
        self._memory: list[mmap.mmap] = []
        self._key_types: dict[str, np.dtype[Any]] = {}
        try:
            for name in loaded.maps:
                self._fds[name] = self._open(name)
            self.services = self._shared("services")
            self.members = self._windows("members")
            self.backends = self._shared("backends")
            self.loads = elements(self._shared("loads"))
            self.tunnels = self._shared("tunnels")
            self.service_labels = self._windows("service_labels")
            self.backend_labels = self._windows("backend_labels")
            self.ring = self._windows("ring", np.dtype(np.uint64))
            self.owners = self._windows("owners", np.dtype(np.uint16))
            self.fronts = self._windows("fronts")
            self.departed = self._shared("departed")
            self.reaping = self._shared("reaping")
            self.adopting = self._shared("adopting")
            self.resets = self._shared("resets")
            entrance = self._shared("entrance")
            self.stations = entrance["own"]
            self.shortcuts, self.filter = entrance["shortcuts"][0], entrance["filter"][0]
            self.reassembly = entrance["reassembly"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Tables:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close files and mappings; the pinned maps remain."""
        for view in ("services", "ring", "owners", "members", "backends", "loads", "tunnels", "service_labels",
                     "backend_labels", "fronts", "departed", "reaping", "adopting", "resets", "stations",
                     "shortcuts", "filter", "reassembly"):  # fmt: skip
            self.__dict__.pop(view, None)
        while self._memory:
            self._memory.pop().close()
        while self._fds:
            os.close(self._fds.popitem()[1])

    def _open(self, name: str) -> int:
        path = Path(self.loaded.pins) / name
        try:
            fd = libbpf.obj_get(path)
        except OSError as error:
            raise DataplaneError(
                f"the map {path} cannot be opened ({os.strerror(error.errno or 0)}): load the data plane anew"
            ) from error
        info, said = libbpf.map_info(fd), self.loaded.maps[name]
        if (info.key_size, info.value_size, info.max_entries) != (
            said["key_size"], said["value_size"], said["max_entries"],
        ):  # fmt: skip
            os.close(fd)
            raise DataplaneError(f"the map {path} is not the one that layout.json describes: load anew")
        return fd

    def _shared(self, name: str) -> Array:
        said = self.loaded.maps[name]
        stride = (said["value_size"] + 7) & ~7
        memory = mmap.mmap(
            self._fds[name],
            (said["max_entries"] * stride + mmap.PAGESIZE - 1) & ~(mmap.PAGESIZE - 1),
            mmap.MAP_SHARED,
            mmap.PROT_READ | mmap.PROT_WRITE,
        )
        self._memory.append(memory)
        return np.frombuffer(memory, dtype_of(said["value"], stride=stride), said["max_entries"])

    def _windows(self, name: str, kind: np.dtype[Any] | None = None) -> Windows:
        """A large map. `kind`: what to take its values for, by default what the layout says; of lists, their
        elements."""
        said = self.loaded.maps[name]
        stride = (said["value_size"] + 7) & ~7
        kind = kind or elements_of(dtype_of(said["value"], stride=stride))
        return Windows(self._fds[name], kind, said["max_entries"] * stride // kind.itemsize)

    def shared(self, name: str) -> Array:
        """A map of type array as mapped memory, which packets read and write. Valid until `close`."""
        return self._shared(name)

    @property
    def members_each(self) -> int:
        """Members per service."""
        return len(self.members) // len(self.services)

    def clear(self, name: str) -> None:
        """Set all values of this array to zero. Not for an array that packets read."""
        self._shared(name).view(np.uint8)[:] = 0

    def entries(self, name: str) -> int:
        """The capacity of a map in entries."""
        return int(self.loaded.maps[name]["max_entries"])

    def store(self, array: Array, index: int, fields: dict[str, Any]) -> int:
        """Write fields of one entry of a shared array, in whole 8-byte words, from last to first, behind all that
        was stored before; returns how many words differed."""
        record = array[index].copy()
        for name, value in fields.items():
            record[name] = value
        stored = array[index : index + 1].view(np.uint64)
        octets = record.tobytes()
        if stored.tobytes() == octets:
            return 0
        wanted = np.frombuffer(octets, np.uint64)
        differs = np.flatnonzero(stored != wanted).tolist()
        for position in reversed(differs):
            barrier()
            stored[position] = wanted[position]
        return len(differs)

    # Listeners and VIPs

    def listener_entries(self, listener: Listener) -> list[Entry]:
        """The entries of a listener: one key of a hash map, or the prefixes that cover its port range."""
        version, protocol = listener.address.version, PROTOCOLS[listener.protocol]
        words = address_words(listener.address)
        if listener.is_exact:
            name, prefixes = f"listeners{version if version == 6 else 4}", [(listener.ports.first, 16)]
        else:
            name, prefixes = f"ranges{version if version == 6 else 4}", list(port_prefixes(listener.ports))
        key = np.zeros(1, self._key_type(name))
        entries = []
        for port, bits in prefixes:
            key["address"] = words[0] if len(words) == 1 else words
            key["port"] = network16(port)
            key["protocol"] = protocol
            if name.startswith("ranges"):
                key["prefix"] = len(words) * 32 + 16 + bits
            entries.append(Entry(name, key.tobytes()))
        return entries

    def set_listener(self, entry: Entry, service: int, front: int) -> None:
        target = service | front << self._front_bits
        libbpf.update(self._fds[entry.map], entry.key, np.uint32(target).tobytes())

    def delete_listener(self, entry: Entry) -> None:
        libbpf.delete(self._fds[entry.map], entry.key)

    def listeners(self) -> dict[Entry, tuple[int, int]]:
        """Service index and front id by entry, read from the maps."""
        bits = self._front_bits
        return {
            Entry(name, key.tobytes()): (int(value) & (1 << bits) - 1, int(value) >> bits)
            for name in ("listeners4", "listeners6", "ranges4", "ranges6")
            for keys, values in self.read(name, 8192)
            for key, value in zip(keys, values, strict=True)
        }

    @property
    def _front_bits(self) -> int:
        return self.enums["listener_bits"]["LISTENER_FRONT"]

    def place_of(self, entry: Entry) -> tuple[Address, int]:
        """The address and IP protocol number of an entry."""
        key = self.key_of(entry)
        return _shared_address(key["address"].tobytes()), int(key["protocol"])

    def key_of(self, entry: Entry) -> Any:
        """The key of an entry, as a struct."""
        return np.frombuffer(entry.key, self._key_type(entry.map))[0]

    def _key_type(self, name: str) -> np.dtype[Any]:
        if name not in self._key_types:
            self._key_types[name] = dtype_of(self.loaded.maps[name]["key"])
        return self._key_types[name]

    def vips(self) -> set[bytes]:
        """The keys of the map `vips`, 16 bytes each."""
        return {key.tobytes() for keys, _ in self.read("vips", 8192) for key in keys}

    def set_vips(self, addresses: set[Address], ranged: set[Address]) -> None:
        """Make exactly these the VIPs: add to filter and map first, then remove the others. `ranged`: the
        addresses with entries in `ranges4` or `ranges6`."""
        wanted = {vip_key(address) for address in addresses}
        words = self._filter_words({"MARK_VIP": addresses, "MARK_RANGES": ranged})
        self.filter |= words
        present = self.vips()
        for key in wanted - present:
            libbpf.update(self._fds["vips"], key, np.uint32(1).tobytes())
        for key in present - wanted:
            self.delete_vip(key)
        self.filter[:] = words

    def put_vip(self, address: Address) -> None:
        libbpf.update(self._fds["vips"], vip_key(address), np.uint32(1).tobytes())

    def delete_vip(self, key: bytes) -> None:
        libbpf.delete(self._fds["vips"], key)

    def _filter_words(self, marked: dict[str, set[Address]]) -> Array:
        """The filter words that bpf/listener.h `vip_filter_marks` reads."""
        words = np.zeros(len(self.filter), np.uint64)
        for mark, addresses in marked.items():
            for address in addresses:
                place = filter_place(address)
                words[place >> 5] |= np.uint64(self.enums["mark"][mark] << (place & 31) * 2)
        return words

    # Whole hash maps

    def read(self, name: str, capacity: int = _BATCH) -> Iterator[tuple[Array, Array]]:
        """Read a hash map in batches of at most `capacity` entries: keys and values, valid until the next
        batch."""
        said = self.loaded.maps[name]
        keys = np.zeros(capacity, dtype_of(said["key"]))
        values = np.zeros(capacity, dtype_of(said["value"]))
        for count in libbpf.lookup_batches(self._fds[name], keys.ctypes.data, values.ctypes.data, capacity):
            yield keys[:count], values[:count]

    def read_range(self, name: str, first: int, count: int) -> Array:
        """`count` values of an array map, from index `first`."""
        values = np.empty(count, dtype_of(self.loaded.maps[name]["value"]))
        libbpf.lookup_range(self._fds[name], first, count, values.ctypes.data)
        return values

    def write(self, name: str, keys: Array, values: Array) -> None:
        """Insert these entries into a hash map."""
        for key, value in zip(keys, values, strict=True):
            libbpf.update(self._fds[name], key.tobytes(), value.tobytes())

    def delete(self, name: str, keys: Array) -> int:
        """Delete these keys; returns how many were present. Entries may be deleted concurrently."""
        return sum(libbpf.delete(self._fds[name], key.tobytes()) for key in keys)

    def renew_client(self, key: bytes, backend: int, now: int, *, proven: bool) -> None:
        """Update the time of a client's entry, if it exists and has this backend."""
        value = self.client(key)
        if value is None or int(value["backend"][0]) != backend:
            return
        value["seen"] = now & 0xFFFFFFFF
        value["proven"] |= proven
        with suppress(FileNotFoundError):  # deleted concurrently
            libbpf.update(self._fds["clients"], key, value.tobytes(), libbpf.Update.EXISTING)

    def forget_client(self, key: bytes, seen: int) -> bool:
        """Delete a client's entry if its time is still `seen`; returns whether it was deleted."""
        value = self.client(key)
        return (
            value is not None and int(value["seen"][0]) == seen and libbpf.delete(self._fds["clients"], key)
        )

    def put_client(self, key: bytes, value: Array) -> bool:
        """Insert or replace a client's entry; False when the map is full."""
        try:
            libbpf.update(self._fds["clients"], key, value.tobytes())
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            return False
        return True

    def client(self, key: bytes) -> Array | None:
        """A client's entry as an array of length one; None when there is none."""
        said = self.loaded.maps["clients"]
        raw = libbpf.lookup(self._fds["clients"], key, said["value_size"])
        return None if raw is None else np.frombuffer(raw, dtype_of(said["value"])).copy()

    # Counters and ports

    def per_cpu_sum(self, name: str, index: int) -> Array:
        """An entry of a per-CPU array, summed over the CPUs, field by field."""
        sums: Array = self.per_cpu_sums(name, [index])[0]
        return sums

    def per_cpu_sums(self, name: str, indices: Sequence[int]) -> Array:
        """One row of fields per index, summed over the CPUs."""
        room = self.entries(name)
        if (missing := next((index for index in indices if not 0 <= index < room), None)) is not None:
            raise IndexError(f"{name} has {room} entries, and no {missing}")
        return percpu.sums(self._fds[name], indices, fields=self._stride(name) // 8, cpus=self._cpus)

    def per_cpu_zero(self, name: str, index: int) -> None:
        libbpf.update(self._fds[name], np.uint32(index).tobytes(), bytes(self._stride(name) * self._cpus))

    def _stride(self, name: str) -> int:
        """Bytes per CPU of one value."""
        return int(self.loaded.maps[name]["value_size"]) + 7 & ~7

    @cached_property
    def _cpus(self) -> int:
        return libbpf.possible_cpus()

    def set_port(self, port: int, ifindex: int) -> None:
        """Make an interface a target of XDP_REDIRECT."""
        libbpf.update(self._fds["ports"], np.int32(port).tobytes(), np.int32(ifindex).tobytes())

    def port(self, port: int) -> int | None:
        """The ifindex of a devmap entry."""
        raw = libbpf.lookup(self._fds["ports"], np.int32(port).tobytes(), 4)
        return int.from_bytes(raw, sys.byteorder) if raw and any(raw) else None


_shared_address = lru_cache(maxsize=1024)(ip_address)
"""Of many listeners with the same VIP."""


def address_of(words: Any) -> Address:
    """The address of these 32-bit words."""
    return ip_address(np.asarray(words, np.uint32).tobytes())
