# SPDX-License-Identifier: Apache-2.0
"""Which services shall not answer yet what they do not know.

A packet from the middle of a connection that has no record is answered by a RST (`on_unknown`). On a director that
takes over, the record may be on its way: from the peer that had the VIP a moment ago, or from the maps of the
program before. Until then such packets are dropped, and clients send them again. A director without the VIP does
so, too, since it takes over before its daemon knows. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf

from xdpdirector.model import Address, ServiceSpec

PATIENCE = 3.0
"""Seconds after a take-over: sync takes a fraction of one, and a client sends again within one."""


class TakeOver:
    """`follows_vips`: VIPs move between directors that send each other their connections. `replaces`: this director
    takes over from a program with other maps."""

    def __init__(
        self, *, follows_vips: bool = False, replaces: bool = False, patience: float = PATIENCE
    ) -> None:
        self.follows_vips, self._until = follows_vips, inf if replaces else -inf
        self._patience = patience
        self._since: dict[Address, float] = {}

    def forwards(self, now: float) -> None:
        """From now on packets run through the program, if they did not before."""
        if self._until == inf:
            self._until = now + self._patience

    @property
    def goes_on(self) -> bool:
        """False once there is nothing more to look for."""
        return self.follows_vips or self._until != -inf

    def forbearing(
        self, services: Mapping[str, ServiceSpec], is_here: Callable[[Address], bool], now: float
    ) -> frozenset[str]:
        """Their names. `is_here`: whether packets for the VIP come to this director; `now`: monotonic seconds."""
        if now < self._until:
            return frozenset(services)
        self._until = -inf
        if not self.follows_vips:
            return frozenset()
        here = {vip for spec in services.values() for vip in spec.vips if is_here(vip)}
        self._since = {vip: self._since.get(vip, now) for vip in here}
        settled = {vip for vip, since in self._since.items() if now - since >= self._patience}
        return frozenset(name for name, spec in services.items() if not settled.issuperset(spec.vips))
