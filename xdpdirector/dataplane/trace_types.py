# SPDX-License-Identifier: Apache-2.0
"""A decision of the packet path, and which of them somebody wants to see. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from xdpdirector.model.listener import Address

Network: TypeAlias = IPv4Network | IPv6Network
Key: TypeAlias = tuple[str, str]

MOST = 1000  # decisions a second that may be asked for


@dataclass(frozen=True)
class Decision:
    """`time` in seconds since the epoch. `reason` as in `enum reason` of bpf/reason.h, in lower case. `backend`:
    whom it speaks of, None when that is nobody, or one that is gone. `frame`: its first bytes as it left, or, when
    it was dropped, as it came; `length`: of all of it. `interface`: where it came in, None when that is gone."""

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
    """Which decisions: empty and None mean all. `reasons` are reasons or verdicts; `rate`: about so many a second
    on each processor; `one_in`: of those that match, one in so many, at random."""

    services: frozenset[str] = frozenset()
    backend: Key | None = None
    client: Network | None = None
    reasons: frozenset[str] = frozenset()
    rate: int = 100
    one_in: int = 1

    def has(self, decision: Decision) -> bool:
        """Whether it is one of them; says nothing of `rate` and `one_in`."""
        return (
            (not self.services or decision.service in self.services)
            and (self.backend is None or (decision.service, decision.backend) == self.backend)
            and (self.client is None or decision.client in self.client)
            and (not self.reasons or not self.reasons.isdisjoint({decision.reason, decision.verdict}))
        )


def union(selections: Collection[Selection]) -> Selection:
    """One that has all that any of them has, at the rate of the one who asks most."""
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
    """The empty one has all."""
    return frozenset().union(*sets) if all(sets) else frozenset()
