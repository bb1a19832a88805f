# SPDX-License-Identifier: Apache-2.0
"""Weighted Maglev hashing: which backend owns which slot of a ring. Pure.

The algorithm is that of section 3.4 of "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI
2016): every backend has its own permutation of the slots, and in turns each takes its next free one. A
backend of weight w takes its k-th turn at time k / w, so a turn costs the same for weight 1 and for 65535.
Names alone decide the permutations: directors that know the same backends agree, whatever their order.

This module knows names and weights; it must not know maps, indices of backends, health or time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Owners: TypeAlias = npt.NDArray[np.int32]

NOBODY = -1
TAIL = 88
"""The number of last turns that use `_populate_tail`. Measured; the ring is the same either way."""


@dataclass(frozen=True, eq=False)
class Ring:
    """`owners[slot]` is an index into `names` (sorted), or `NOBODY`. The array is shared and read-only."""

    names: tuple[str, ...]
    owners: Owners

    def owner(self, slot: int) -> str | None:
        """The name of the slot's backend; None for a slot that nobody owns."""
        index = int(self.owners[slot])
        return None if index == NOBODY else self.names[index]

    def shares(self) -> dict[str, int]:
        """Slots of each backend."""
        counts = np.bincount(self.owners[self.owners != NOBODY], minlength=len(self.names))
        return dict(zip(self.names, counts.tolist(), strict=True))


def table(weights: Mapping[str, int], slots: int) -> Ring:
    """The ring of all backends with a weight above 0; their shares of the slots are as their weights.

    Every one of them owns a slot at least, as long as there are as many slots as backends. `slots` must be
    prime, or the permutations would not reach every slot: ValueError.
    """
    return _table(_frozen(weights), slots)


def fill(weights: Mapping[str, int], eligible: Collection[str], slots: int) -> Ring:
    """The ring in which only the `eligible` backends own slots, with as few slots moved as possible.

    A slot whose owner in the ring of all backends (`table(weights, slots)`) is eligible keeps that owner. The
    other slots go to their owners in a ring of the eligible backends only. So a backend that goes down or
    drains moves only its own slots, and gets the same slots back.
    """
    frozen = _frozen(weights)
    return _fill(frozen, tuple(name for name, _ in frozen if name in eligible), slots)


def _frozen(weights: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """The weights that determine a ring: hashable, in name order, without zero weights."""
    if any(weight < 0 for weight in weights.values()):
        raise ValueError("a weight is below 0")
    return tuple(sorted((name, weight) for name, weight in weights.items() if weight > 0))


@lru_cache(maxsize=16)
def _fill(weights: tuple[tuple[str, int], ...], eligible: tuple[str, ...], slots: int) -> Ring:
    whole = _table(weights, slots)
    if len(eligible) == len(weights):
        return whole
    spare = _table(tuple(item for item in weights if item[0] in set(eligible)), slots)
    if not eligible:
        return Ring(whole.names, spare.owners)
    # The last entry of each is for index -1, NOBODY.
    stays = np.array([name in set(eligible) for name in whole.names] + [False])
    into_whole = np.array([whole.names.index(name) for name in spare.names] + [NOBODY], dtype=np.int32)
    return Ring(whole.names, _sealed(np.where(stays[whole.owners], whole.owners, into_whole[spare.owners])))


@lru_cache(maxsize=16)
def _table(weights: tuple[tuple[str, int], ...], slots: int) -> Ring:
    if slots < 2 or any(slots % divisor == 0 for divisor in range(2, int(slots**0.5) + 1)):
        raise ValueError(f"{slots} slots: a ring's size must be prime")
    names = tuple(name for name, _ in weights)
    if not names:
        return Ring(names, _sealed(np.full(slots, NOBODY, dtype=np.int32)))
    order = _turns([weight for _, weight in weights], slots)
    return Ring(names, _sealed(np.array(_populate(names, order, slots), dtype=np.int32)))


def _turns(weights: list[int], slots: int) -> list[int]:
    """The owners of the 1st, 2nd, ... slot. Ties go by name; quotients this small compare exactly."""
    total = sum(weights)
    quotas = [min(slots, slots * weight // total + 1) for weight in weights]
    times = np.concatenate([np.arange(quota) / weight for quota, weight in zip(quotas, weights, strict=True)])
    who = np.repeat(np.arange(len(weights)), quotas)
    order: list[int] = who[np.argsort(times, kind="stable")][:slots].tolist()
    return order


def _populate(names: tuple[str, ...], order: list[int], slots: int) -> list[int]:
    """The paper's listing 1: on its turn a backend takes the next free slot of its permutation."""
    permutations = [_permutation(name, slots) for name in names]
    cursor, skips = [offset for offset, _ in permutations], [skip for _, skip in permutations]
    owners, taken = [NOBODY] * slots, bytearray(slots)
    few = slots // TAIL
    for who in order[: len(order) - few]:
        slot, skip = cursor[who], skips[who]
        while taken[slot]:
            slot += skip
            if slot >= slots:
                slot -= slots
        taken[slot] = True
        owners[slot] = who
        cursor[who] = slot
    _populate_tail(permutations, order[len(order) - few :], owners)
    return owners


def _populate_tail(permutations: list[tuple[int, int]], order: list[int], owners: list[int]) -> None:
    """The last turns, where walking the permutation would take most of the time: of the free slots, take the
    one that comes first in the backend's permutation."""
    slots = len(owners)
    free = np.flatnonzero(np.array(owners, np.int32) == NOBODY)
    for who in order:
        offset, skip = permutations[who]
        place = int(np.argmin((free - offset) * pow(skip, -1, slots) % slots))
        owners[free[place]] = who
        free[place] = free[-1]
        free = free[:-1]


def _permutation(name: str, slots: int) -> tuple[int, int]:
    """Offset and skip. Do not change the seeds: that would move the connections of every director."""
    offset = blake2b(name.encode(), digest_size=8, person=b"maglev offset").digest()
    skip = blake2b(name.encode(), digest_size=8, person=b"maglev skip").digest()
    return int.from_bytes(offset, "big") % slots, int.from_bytes(skip, "big") % (slots - 1) + 1


def _sealed(owners: Owners) -> Owners:
    owners.setflags(write=False)
    return owners
