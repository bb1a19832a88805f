# SPDX-License-Identifier: Apache-2.0
"""Sends probes at a limited rate: a hundred per second to single machines, ten to all.

Keeps the results for each backend's VIPs. Knows neither rounds nor how results are used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from xdpdirector.lan.expected import Scene, Target, probe_source
from xdpdirector.lan.request import Inquiry
from xdpdirector.lan.vip_probe import Verdict, look
from xdpdirector.model import Address
from xdpdirector.model.status import utc_now

Key = tuple[Address, Address]


class Asking:
    """`on_news` is called when a result changes; `on_silence(address)` when a backend stops answering."""

    def __init__(
        self, inquiry: Inquiry, on_news: Callable[[], None], on_silence: Callable[[Address], None]
    ) -> None:
        self._inquiry, self._on_news, self._on_silence = inquiry, on_news, on_silence
        self._known: dict[Key, tuple[Verdict, datetime]] = {}

    @property
    def known(self) -> Mapping[Key, tuple[Verdict, datetime]]:
        """By (backend address, VIP): the result, and when its probe was made."""
        return self._known

    def keep(self, now: Scene) -> None:
        """Drop results that are no longer wanted."""
        self._known = {
            (address, vip): known
            for (address, vip), known in self._known.items()
            if address in now.targets and vip in now.targets[address].vips
        }

    async def owners(self, now: Scene, vips: Collection[Address]) -> None:
        """Probe who has these VIPs; answers arrive as claims."""
        for vip in vips:
            for place in now.held.get(vip, ()):
                source = probe_source(vip, now.source(place, vip))
                if source is not None:
                    self._inquiry.who_has(place, vip, source, now.links[place].mac)
                    await asyncio.sleep(self._inquiry.pace.to_all)

    async def whereabouts(self, now: Scene, addresses: Collection[Address]) -> None:
        """Probe for these backends. The kernel also receives the answers, and updates its neighbour table."""
        for address in addresses:
            interface = now.targets[address].route.interface
            source, link = now.source(interface, address), now.links.get(interface)
            if source is not None and link and link.mac:
                self._inquiry.who_has(interface, address, source, link.mac)
                await asyncio.sleep(self._inquiry.pace.to_all)

    async def presences(self, now: Scene, addresses: Collection[Address]) -> None:
        """Probe whether those with a MAC have their VIPs. ExceptionGroup: of what failed."""
        whole = asyncio.current_task()
        async with asyncio.TaskGroup() as tasks:
            for address in addresses:
                target = now.targets[address]
                if not target.is_wanted or target.route.mac is None:
                    continue
                for vip in target.vips:
                    tasks.create_task(
                        self._presence(now, target, vip), name=whole.get_name() if whole else None
                    )
                    await asyncio.sleep(self._inquiry.pace.to_one)

    async def _presence(self, now: Scene, target: Target, vip: Address) -> None:
        verdict, key = await look(self._inquiry, now, target, vip), (target.address, vip)
        before = self._known[key][0] if key in self._known else None
        self._known[key] = verdict, utc_now()
        if verdict != before:
            self._on_news()
        if not verdict.answers and (before is None or before.answers):
            self._on_silence(target.address)
