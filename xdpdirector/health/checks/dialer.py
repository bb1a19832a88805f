# SPDX-License-Identifier: Apache-2.0
"""How a check gets to the address that it asks, and one try over that way. Knows no intervals and no verdicts."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from xdpdirector.health.checks import (
    CheckFailed,
    CheckImpossible,
    Dial,
    NoWay,
    Probe,
    Target,
    direct,
)
from xdpdirector.model import Address
from xdpdirector.model.checks import CheckSpec
from xdpdirector.net.next_hop import Route

GLANCE = 0.25  # seconds for the look at a backend's own address

RouteOf = Callable[[Address], Route]


class Ways(Protocol):
    """`xdpdirector.health.vip_network.CheckNetwork` and `PlainWays` are both one."""

    async def prepare(self, target: Target, route: RouteOf) -> Target:
        """Whom to ask now: the target or, where its VIP cannot be reached from here, the backend's own address.
        `route`: the way that frames take to a backend. Raises CheckImpossible."""

    async def dial(self, target: Target, kind: int, protocol: int = 0, /) -> socket.socket:
        """A Dial, for prepared targets."""

    def fault(self, target: Target, since: float) -> str:
        """Why a prepared target may have been silent without any fault of its own, at some time since then
        (monotonic seconds); empty when the way there is whole."""

    def forget(self, target: Target) -> None:
        """Nobody asks this any more."""

    def notes(self) -> list[str]:
        """A sentence for each thing that checks cannot see from here."""

    async def close(self) -> None: ...


class PlainWays:
    """Asks every backend by its own address."""

    async def prepare(self, target: Target, route: RouteOf) -> Target:
        return target.direct()

    async def dial(self, target: Target, kind: int, protocol: int = 0, /) -> socket.socket:
        return await direct(target, kind, protocol)

    def fault(self, target: Target, since: float) -> str:
        return ""

    def forget(self, target: Target) -> None: ...

    def notes(self) -> list[str]:
        return []

    async def close(self) -> None: ...


async def attempt(spec: CheckSpec, target: Target, ways: Ways, route: RouteOf, probe: Probe) -> float | None:
    """One try; what it returns and raises is the Probe's. When a VIP does not answer, the backend's own address is
    asked as well, so that the reason names the classic failure of direct routing: the server lost its VIP.

    A failure while something is wrong with the director's own network is none of the backend's: NoWay."""
    begun = asyncio.get_running_loop().time()
    _require_own_network(target, route, begun)
    try:
        target = await ways.prepare(target, route)
    except NoWay:
        raise
    except CheckImpossible as reason:  # the probe hears it from its dial: whoever measures probes counts it
        return await probe(spec, target, _refusing(reason))
    prepared = asyncio.get_running_loop().time()
    try:
        return await probe(spec, target, ways.dial)
    except CheckFailed as failure:
        _require_own_network(target, route, begun)
        if why := ways.fault(target, prepared):
            raise CheckImpossible(why) from failure
        if not failure.absence or not target.is_vip or not await _answers(spec, target.direct(), probe):
            raise
        raise CheckFailed(
            f"{failure}, while {target.direct()} answers: {_remedy(target, failure)}"
        ) from failure


def _require_own_network(target: Target, route: RouteOf, since: float) -> None:
    """NoWay when it was at fault at some time since then."""
    way = route(target.backend)
    if way.fault or way.disturbed >= since:
        raise NoWay(way.fault or "the director's own network was disturbed while the backend was asked")


def _refusing(reason: CheckImpossible) -> Dial:
    async def refuse(_target: Target, _kind: int, _protocol: int = 0) -> socket.socket:
        raise reason

    return refuse


async def _answers(spec: CheckSpec, target: Target, probe: Probe) -> bool:
    glance = spec.model_copy(update={"timeout": min(spec.timeout, GLANCE)})
    plain: Dial = direct
    try:
        await probe(glance, target, plain)
    except (CheckFailed, CheckImpossible, OSError):
        return False
    return True


def _remedy(target: Target, failure: CheckFailed) -> str:
    if failure.absence == "refused":
        return "let the server listen on the VIP too, or ask its own address with `via: address`"
    return (
        f"the server has lost the VIP (ip address add {target.address}/{target.address.max_prefixlen} dev lo), "
        "or a firewall on it drops what is sent there"
    )
