# SPDX-License-Identifier: Apache-2.0
"""Rates and waiting times of probes, in seconds; a queue that probes no address too often."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from xdpdirector.model import Address


class ProbeQueue:
    """`apart`: minimum seconds between two probes of one address. An address added sooner is dropped; it is
    added again if the problem persists."""

    def __init__(self, apart: float) -> None:
        self._apart = apart
        self._suspects: set[Address] = set()
        self._taken: dict[Address, float] = {}
        self._news = asyncio.Event()

    def add(self, address: Address) -> None:
        self._suspects.add(address)
        self._news.set()

    async def take(self) -> set[Address]:
        """Wait for addresses; returns those that are due."""
        await self._news.wait()
        self._news.clear()
        now = asyncio.get_running_loop().time()
        suspects, self._suspects = self._suspects, set()
        self._taken = {each: at for each, at in self._taken.items() if now - at < self._apart}
        due = suspects - self._taken.keys()
        self._taken.update(dict.fromkeys(due, now))
        return due


class Pace(NamedTuple):
    """`answer`: how long to wait for one; a LAN needs a few milliseconds. `to_one`, `to_all`: between two
    probes to a single machine, and to all. `judging`: delay from an event to the judgement. `neighbours`: how
    long a backend may be without a MAC, since a kernel that resolves many at once takes a moment. `searches`:
    between two searches for one address."""

    answer: float = 0.3
    to_one: float = 0.01
    to_all: float = 0.1
    judging: float = 0.2
    neighbours: float = 1.0
    searches: float = 1.0
