# SPDX-License-Identifier: Apache-2.0
"""The pinned maps as typed numpy views. Types come from layout.json, which the loader wrote from the C structs.

Knows bytes, byte order and the kernel; knows nothing of services' meaning, health or order of changes.
A shared array is memory that the packets read: an aligned 8-byte store is one change to them.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property, reduce
from ipaddress import ip_address
from operator import xor
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from xdpdirector import libbpf
from xdpdirector.dataplane import percpu
from xdpdirector.errors import DataplaneError
from xdpdirector.loader.layout import Loaded
from xdpdirector.model.listener import WITHOUT_PORTS, Address, Listener, Ports

Array: TypeAlias = npt.NDArray[Any]

PROTOCOLS = {"tcp": 6, "udp": 17, **WITHOUT_PORTS}
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
    """The numpy type of a scalar or struct of layout.json; `stride`: its distance in an array, in bytes."""
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
    """The address as the 32-bit numbers that the program reads from a packet."""
    packed = address.packed
    return tuple(int.from_bytes(packed[i : i + 4], sys.byteorder) for i in range(0, len(packed), 4))


def vip_key(address: Address) -> bytes:
    """Its key in the map `vips`: an IPv4 address as an IPv4-mapped one (RFC 4291, 2.5.5.2)."""
    return address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed


def filter_place(address: Address) -> int:
    """Where its mark is in the VIP filter: 32 marks of two bits to a word, as bpf/listener.h `vip_filter_marks`."""
    hashed = reduce(xor, address_words(address))
    return (hashed ^ hashed >> 16) & 0xFFFF


def network16(number: int) -> int:
    """A port as the 16-bit number that the program reads from a packet."""
    return int.from_bytes(number.to_bytes(2, "big"), sys.byteorder)


class Entry(NamedTuple):
    """A place in one of the maps that lead to services."""

    map: str
    key: bytes


def port_prefixes(ports: Ports) -> Iterator[tuple[int, int]]:
    """The fewest prefixes that make up a range of ports: (first port, bits)."""
    first, last = ports
    while first <= last:
        size = first & -first or 1 << 16
        while first + size - 1 > last:
            size >>= 1
        yield first, 17 - size.bit_length()
        first += size


def count_of(load: Any, name: str) -> int:
    """A count of `struct load` with its correction: the sum in their width, as either of them may have wrapped."""
    return _in_width(int(load[name]) + int(load[f"{name}_correction"]), load[name])


def correct(load: Any, name: str, by: int) -> None:
    """Count so many more, or less, in the field that is the daemon's."""
    field = f"{name}_correction"
    load[field] = _in_width(int(load[field]) + by, load[field])


def _in_width(number: int, like: Any) -> int:
    """Of a signed field: as the processor has it."""
    half: int = 1 << 8 * int(like.dtype.itemsize) - 1
    return (number + half) % (2 * half) - half


def elements(values: Array) -> Array:
    """Of values that are lists (one field, `of`) the elements, numbered through; others as they are."""
    return values["of"].reshape(-1) if values.dtype.names == ("of",) else values


class Tables:
    """Opens all maps of one loaded data plane. Close it, or use it as a context manager."""

    def __init__(self, loaded: Loaded) -> None:
        """DataplaneError when a map is missing or is not what the layout says."""
        self.loaded = loaded
        self.enums = loaded.enums
        self._fds: dict[str, int] = {}
        self._memory: list[mmap.mmap] = []
        self._key_types: dict[str, np.dtype[Any]] = {}
        try:
            for name in loaded.maps:
                self._fds[name] = self._open(name)
            self.services = self._shared("services")
            self.members = elements(self._shared("members"))
            self.backends = self._shared("backends")
            self.loads = elements(self._shared("loads"))
            self.service_labels = self._shared("service_labels")
            self.backend_labels = self._shared("backend_labels")
            self.fronts = self._shared("fronts")
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

    @cached_property
    def ring(self) -> Array:
        """The slots of all rings, a word each. The largest of the maps: who has no ring does without it."""
        return self._shared("ring").view(np.uint64)

    def close(self) -> None:
        """Lets go of everything; the maps live on."""
        for view in ("services", "ring", "members", "backends", "loads", "service_labels",
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

    def shared(self, name: str) -> Array:
        """An array that is mapped, value by value: memory that packets read and write. Valid until `close`."""
        return self._shared(name)

    @property
    def members_each(self) -> int:
        """How many a service has room for."""
        return len(self.members) // len(self.services)

    def clear(self, name: str) -> None:
        """Nothing stands in this array any more. Not for one that packets see."""
        self._shared(name).view(np.uint8)[:] = 0

    def entries(self, name: str) -> int:
        """How many entries a map can hold."""
        return int(self.loaded.maps[name]["max_entries"])

    def store(self, array: Array, index: int, fields: dict[str, Any]) -> int:
        """Change fields of one entry of a shared array, by whole 8-byte words, from the last to the first; how many
        words differed."""
        record = array[index].copy()
        for name, value in fields.items():
            record[name] = value
        stored = array[index : index + 1].view(np.uint64)
        wanted = np.frombuffer(record.tobytes(), np.uint64)
        differs = np.flatnonzero(stored != wanted).tolist()
        for position in reversed(differs):
            stored[position] = wanted[position]
        return len(differs)

    # Listeners and VIPs

    def listener_entries(self, listener: Listener) -> list[Entry]:
        """Where a listener stands: one key of a hash map, or the prefixes that its port range falls into."""
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
        """What stands in the maps now: the numbers of service and front by entry."""
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
        """The address in an entry's key, and the number of its protocol."""
        key = self.key_of(entry)
        return address_of(key["address"]), int(key["protocol"])

    def key_of(self, entry: Entry) -> Any:
        """An entry's key, field by field."""
        return np.frombuffer(entry.key, self._key_type(entry.map))[0]

    def _key_type(self, name: str) -> np.dtype[Any]:
        if name not in self._key_types:
            self._key_types[name] = dtype_of(self.loaded.maps[name]["key"])
        return self._key_types[name]

    def vips(self) -> set[bytes]:
        """The addresses in the map `vips`, as its 16-byte keys."""
        return {key.tobytes() for keys, _ in self.read("vips", 8192) for key in keys}

    def set_vips(self, addresses: set[Address], ranged: set[Address]) -> None:
        """Exactly these are VIPs: first what is new, in the filter and exactly, then away with the rest. `ranged`:
        those of them that have entries in `ranges4` or `ranges6`."""
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
        """The marks that bpf/listener.h `vip_filter_marks` finds."""
        words = np.zeros(len(self.filter), np.uint64)
        for mark, addresses in marked.items():
            for address in addresses:
                place = filter_place(address)
                words[place >> 5] |= np.uint64(self.enums["mark"][mark] << (place & 31) * 2)
        return words

    # Hash maps, whole

    def read(self, name: str, capacity: int = _BATCH) -> Iterator[tuple[Array, Array]]:
        """A hash map in pieces of at most `capacity` entries: keys and values, valid until the next piece."""
        said = self.loaded.maps[name]
        keys = np.zeros(capacity, dtype_of(said["key"]))
        values = np.zeros(capacity, dtype_of(said["value"]))
        for count in libbpf.lookup_batches(self._fds[name], keys.ctypes.data, values.ctypes.data, capacity):
            yield keys[:count], values[:count]

    def read_range(self, name: str, first: int, count: int) -> Array:
        """So many values of an array, from that index on."""
        values = np.empty(count, dtype_of(self.loaded.maps[name]["value"]))
        libbpf.lookup_range(self._fds[name], first, count, values.ctypes.data)
        return values

    def write(self, name: str, keys: Array, values: Array) -> None:
        """Put these entries into a hash map."""
        for key, value in zip(keys, values, strict=True):
            libbpf.update(self._fds[name], key.tobytes(), value.tobytes())

    def delete(self, name: str, keys: Array) -> int:
        """Delete these keys; how many were there. They may go away meanwhile."""
        return sum(libbpf.delete(self._fds[name], key.tobytes()) for key in keys)

    def renew_client(self, key: bytes, backend: int, now: int, *, proven: bool) -> None:
        """Say of a client's entry that it was seen now, if it is there and of that backend."""
        value = self.client(key)
        if value is None or int(value["backend"][0]) != backend:
            return
        value["seen"] = now & 0xFFFFFFFF
        value["proven"] |= proven
        with suppress(FileNotFoundError):  # it went meanwhile
            libbpf.update(self._fds["clients"], key, value.tobytes(), libbpf.Update.EXISTING)

    def forget_client(self, key: bytes, seen: int) -> bool:
        """Delete a client's entry, if it is still as it was then; whether that was so."""
        value = self.client(key)
        return (
            value is not None and int(value["seen"][0]) == seen and libbpf.delete(self._fds["clients"], key)
        )

    def put_client(self, key: bytes, value: Array) -> bool:
        """Make or replace a client's entry; False when there is no room."""
        try:
            libbpf.update(self._fds["clients"], key, value.tobytes())
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            return False
        return True

    def client(self, key: bytes) -> Array | None:
        """A client's entry as an array of one; None when there is none."""
        said = self.loaded.maps["clients"]
        raw = libbpf.lookup(self._fds["clients"], key, said["value_size"])
        return None if raw is None else np.frombuffer(raw, dtype_of(said["value"])).copy()

    # Counters and ports

    def per_cpu_sum(self, name: str, index: int) -> Array:
        """An entry of a per-CPU array, summed over the processors, field by field."""
        sums: Array = self.per_cpu_sums(name, [index])[0]
        return sums

    def per_cpu_sums(self, name: str, indices: Sequence[int]) -> Array:
        """As many rows of fields as indices."""
        if any(not 0 <= index < self.entries(name) for index in indices):
            raise IndexError(f"{name} has {self.entries(name)} entries, and no {max(indices)}")
        return percpu.sums(self._fds[name], indices, fields=self._stride(name) // 8, cpus=self._cpus)

    def per_cpu_zero(self, name: str, index: int) -> None:
        libbpf.update(self._fds[name], np.uint32(index).tobytes(), bytes(self._stride(name) * self._cpus))

    def _stride(self, name: str) -> int:
        """Octets of one processor's value."""
        return int(self.loaded.maps[name]["value_size"]) + 7 & ~7

    @cached_property
    def _cpus(self) -> int:
        return libbpf.possible_cpus()

    def set_port(self, port: int, ifindex: int) -> None:
        """Make an interface reachable for XDP_REDIRECT."""
        libbpf.update(self._fds["ports"], np.int32(port).tobytes(), np.int32(ifindex).tobytes())

    def port(self, port: int) -> int | None:
        """The interface behind a port."""
        raw = libbpf.lookup(self._fds["ports"], np.int32(port).tobytes(), 4)
        return int.from_bytes(raw, sys.byteorder) if raw and any(raw) else None


def address_of(words: Any) -> Address:
    """The address whose 32-bit numbers these are."""
    return ip_address(np.asarray(words, np.uint32).tobytes())
