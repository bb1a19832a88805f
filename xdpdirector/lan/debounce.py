# SPDX-License-Identifier: Apache-2.0
"""Collects addresses to probe soon, each at most once in a given time. Does not probe."""

from __future__ import annotations

import asyncio

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
