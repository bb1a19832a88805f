# SPDX-License-Identifier: Apache-2.0
"""Makes one probe over the network path to its target. Knows no intervals and no health states."""

from __future__ import annotations

import asyncio
import socket
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

REACHABILITY_TIMEOUT = 0.25  # seconds for probing a backend's own address


class RouteOf(Protocol):
    """Returns the route to a backend. `routed`: it may be behind a gateway, see `net.next_hop.judge`."""

    def __call__(self, address: Address, routed: bool = False, /) -> Route: ...


class Ways(Protocol):
    """Network paths to targets. Implemented by `xdpdirector.health.vip_network.CheckNetwork` and `PlainWays`."""

    async def prepare(self, target: Target, route: RouteOf) -> Target:
        """The target to probe now: the given one or, if its VIP cannot be reached from here, the backend's
        own address. `route`: returns the route to a backend. CheckImpossible."""

    async def dial(self, target: Target, kind: int, protocol: int = 0, /) -> socket.socket:
        """The Dial for prepared targets."""

    def fault(self, target: Target, since: float) -> str:
        """Why a prepared target may not have been reached since then (monotonic seconds), through no fault of
        its own; empty if the path is intact."""

    def forget(self, target: Target) -> None:
        """Release the path to a target that is no longer probed."""

    def notes(self) -> list[str]:
        """One sentence for each thing that checks cannot test from here."""

    async def close(self) -> None: ...


class PlainWays:
    """Probes every backend by its own address."""

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
    """One probe; returns and raises what the Probe does. If a VIP does not answer, the backend's own address
    is probed too, so that the reason names a common fault of direct routing: the server lost its VIP.

    NoWay for a failure while the director's own network had a fault: it says nothing about the backend.
    """
    begun = asyncio.get_running_loop().time()
    _require_own_network(target, route, begun)
    try:
        target = await ways.prepare(target, route)
    except NoWay:
        raise
    except CheckImpossible as reason:  # raised from the probe's dial, so that a measuring probe counts it
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
    """Raise NoWay if the director's own network had a fault at any time since then."""
    way = route(target.backend, target.is_routed)
    if way.fault or way.disturbed >= since:
        raise NoWay(way.fault or "the director's own network was disturbed while the backend was asked")


def _refusing(reason: CheckImpossible) -> Dial:
    async def refuse(_target: Target, _kind: int, _protocol: int = 0) -> socket.socket:
        raise reason

    return refuse


async def _answers(spec: CheckSpec, target: Target, probe: Probe) -> bool:
    quick = spec.model_copy(update={"timeout": min(spec.timeout, REACHABILITY_TIMEOUT)})
    plain: Dial = direct
    try:
        await probe(quick, target, plain)
    except (CheckFailed, CheckImpossible, OSError):
        return False
    return True


def _remedy(target: Target, failure: CheckFailed) -> str:
    if failure.absence == "refused":
        return "let the server listen on the VIP too, or ask its own address with `via: address`"
    tunnel = target.encapsulation
    header = f"does not take the tunnel's header off ({tunnel.kind}, see docs/tunnels.md), " if tunnel else ""
    vip = f"{target.address}/{target.address.max_prefixlen}"
    return (
        f"the server {header}has lost the VIP (ip address add {vip} dev lo), "
        "or a firewall on it drops what is sent there"
    )
