# SPDX-License-Identifier: Apache-2.0
"""Traced decisions of the packet path, and the selection of them. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from xdpdirector.model.listener import Address

Network: TypeAlias = IPv4Network | IPv6Network
Key: TypeAlias = tuple[str, str]

MOST = 1000  # maximum rate, decisions per second


@dataclass(frozen=True)
class Decision:
    """`time`: seconds since the epoch. `reason`: `enum reason` of bpf/reason.h, in lower case. `backend`: the
    backend concerned, None without one or if it was removed. `frame`: its first bytes as sent, or as received
    if dropped; `length`: of the whole frame. `interface`: ingress, None if it was removed."""

    time: float
    client: Address
    client_port: int
    vip: Address
    port: int
    protocol: str
    flags: str
    reason: str
    service: str | None
    backend: str | None
    interface: str | None
    length: int
    frame: bytes

    @property
    def verdict(self) -> str:
        """`pass`, `forward`, `reject` or `drop`."""
        return self.reason.partition("_")[0]


@dataclass(frozen=True)
class Selection:
    """Which decisions to trace; empty and None match all. `reasons`: reasons or verdicts. `rate`: approximate
    limit per second and CPU. `one_in`: sample one in this many matching decisions, at random."""

    services: frozenset[str] = frozenset()
    backend: Key | None = None
    client: Network | None = None
    reasons: frozenset[str] = frozenset()
    rate: int = 100
    one_in: int = 1

    def has(self, decision: Decision) -> bool:
        """True if the decision matches; ignores `rate` and `one_in`."""
        return (
            (not self.services or decision.service in self.services)
            and (self.backend is None or (decision.service, decision.backend) == self.backend)
            and (self.client is None or decision.client in self.client)
            and (not self.reasons or not self.reasons.isdisjoint({decision.reason, decision.verdict}))
        )


def union(selections: Collection[Selection]) -> Selection:
    """A selection that matches everything that any of them matches, at the highest rate."""
    first, *others = selections
    return Selection(
        services=_either([each.services for each in selections]),
        backend=first.backend if all(each.backend == first.backend for each in others) else None,
        client=first.client if all(each.client == first.client for each in others) else None,
        reasons=_either([each.reasons for each in selections]),
        rate=max(each.rate for each in selections),
        one_in=min(each.one_in for each in selections),
    )


def _either(sets: Collection[frozenset[str]]) -> frozenset[str]:
    """The union; an empty set matches all."""
    return frozenset().union(*sets) if all(sets) else frozenset()
