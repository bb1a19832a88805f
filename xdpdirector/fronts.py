# SPDX-License-Identifier: Apache-2.0
"""A front is a service at one VIP and protocol: what a connection's record says of where its flow goes in.

The map `fronts` is the memory. A front that no listener needs any more rests until a sweep has seen that no
record speaks of it: another one that had its number would inherit its connections. It also says which backends are
out there, by their places in the service. Knows numbers; nothing of listeners' ports or rings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from xdpdirector.errors import CapacityError
from xdpdirector.listener import Address
from xdpdirector.tables import Array, Tables, address_of, address_words


class Front(NamedTuple):
    """`service`: its index; `protocol`: its number."""

    service: int
    address: Address
    protocol: int


_WORD = 64  # bits

Out = Mapping[Address, int]
"""By VIP: a bit for each place whose backend is down there."""


class Fronts:
    """Numbers of fronts, from 1 on."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        uses = tables.enums["front_use"]
        self._free, self._serving, self._resting = (
            uses[f"FRONT_{use}"] for use in ("FREE", "SERVING", "RESTING")
        )
        used = (self._array["use"] != self._free).nonzero()[0]
        self._numbers: dict[Front, int] = {self._read(number): number for number in used.tolist()}
        self._taken = set(self._numbers.values())
        self._next: int = max(self._taken, default=0) + 1
        self._at: dict[int, dict[Address, set[int]]] = {}
        for front, number in self._numbers.items():
            self._note(front, number)
        self._out: dict[int, Out] = {}

    @property
    def _array(self) -> Array:
        return self._tables.fronts

    def room(self) -> int:
        """How many new ones there can be now."""
        return len(self._array) - 1 - len(self._numbers)

    def knows(self, front: Front) -> bool:
        """Whether it has a number."""
        return front in self._numbers

    def number(self, front: Front) -> int:
        """A number for this front, which serves from now on. CapacityError when all are taken."""
        if front not in self._numbers:
            number = self._find_free()
            self._write(number, front)
            self._write_out(number, self._out.get(front.service, {}).get(front.address, 0))
            self._numbers[front] = number
            self._taken.add(number)
            self._note(front, number)
        number = self._numbers[front]
        self._array["use"][number] = self._serving
        return number

    def _find_free(self) -> int:
        """The one that has been free for longest, or so."""
        last = len(self._array) - 1
        for step in range(last):
            number = (self._next + step - 1) % last + 1
            if number not in self._taken:
                self._next = number + 1
                return number
        raise CapacityError(
            f"there is room for {last} pairs of VIP and protocol, and those of listeners that were removed come "
            "free within seconds: try again, or use fewer"
        )

    def keep(self, numbers: Set[int]) -> None:
        """These serve; the others that did rest from now on. Puts right what somebody else wrote."""
        for front, number in self._numbers.items():
            self._write(number, front)
            use = int(self._array["use"][number])
            if number in numbers and use != self._serving:
                self._array["use"][number] = self._serving
            elif number not in numbers and use != self._resting:
                self._array["use"][number] = self._resting

    def wanted_out(self, service: int) -> Out:
        """As it was said last."""
        return self._out.get(service, {})

    def add_out(self, service: int, out: Out) -> int:
        """Who is out at the service's fronts, besides those that are already; how many places were written. A front
        to come will be made so."""
        self._out[service] = out
        writes = 0
        for address, places in out.items():
            for number in self._at.get(service, {}).get(address, ()):
                writes += self._write_out(number, places | self._read_out(number))
        return writes

    def set_out(self, service: int, out: Out) -> int:
        """The same, and nobody else."""
        self._out[service] = out
        return sum(
            self._write_out(number, out.get(address, 0))
            for address, numbers in self._at.get(service, {}).items()
            for number in numbers
        )

    def out(self, service: int) -> dict[Address, int]:
        """Who is out, by each VIP at which the service is."""
        return {
            address: self._read_out(number)
            for address, numbers in self._at.get(service, {}).items()
            for number in numbers
            if int(self._array["use"][number]) == self._serving
        }

    def forget(self, service: int) -> None:
        """The service is gone."""
        self._out.pop(service, None)

    def resting(self) -> frozenset[int]:
        """Those whose records are to go."""
        return frozenset(n for n in self._numbers.values() if int(self._array["use"][n]) == self._resting)

    def release(self, numbers: Iterable[int]) -> None:
        """Of these no record is left: who still rests is free."""
        free = set(numbers) & self.resting()
        self._array["use"][list(free)] = self._free
        self._taken -= free
        for front, number in list(self._numbers.items()):
            if number in free:
                del self._numbers[front]
                self._at[front.service][front.address].discard(number)

    def _note(self, front: Front, number: int) -> None:
        self._at.setdefault(front.service, {}).setdefault(front.address, set()).add(number)

    def _read_out(self, number: int) -> int:
        return int.from_bytes(self._array["out"][number].tobytes(), "little")

    def _write_out(self, number: int, places: int) -> int:
        """Whether there was something to do. A word is stored at once."""
        if self._read_out(number) == places:
            return 0
        words = self._array["out"][number]
        for word in range(len(words)):
            words[word] = places >> _WORD * word & (1 << _WORD) - 1
        return 1

    def _read(self, number: int) -> Front:
        entry = self._array[number]
        words = entry["address"] if entry["ipv6"] else entry["address"][0]
        return Front(int(entry["service"]), address_of(words), int(entry["protocol"]))

    def _write(self, number: int, front: Front) -> None:
        entry, words = self._array[number], address_words(front.address)
        entry["address"] = (*words, *(0,) * (4 - len(words)))
        entry["service"], entry["protocol"] = front.service, front.protocol
        entry["ipv6"] = front.address.version == 6
