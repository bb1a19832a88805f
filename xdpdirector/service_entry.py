# SPDX-License-Identifier: Apache-2.0
"""What a service's plan is in numbers: the fields of `struct service` in bpf/types.h. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from xdpdirector.model import Persistence
from xdpdirector.schedule import COSTS, NO_BACKEND, ServicePlan

CLOSED = 10.0  # seconds that a connection is remembered after a RST, as in IPVS

Enums = Mapping[str, Mapping[str, int]]


def service_fields(
    plan: ServicePlan,
    region: slice | None,
    indices: Mapping[str, int],
    enums: Enums,
    jiffies: Callable[[float], int],
) -> dict[str, Any]:
    """`region`: where its ring stands, if it has one; `indices` of its backends by name."""
    cost, policy, keeps = COSTS[plan.scheduler], enums["policy"], plan.persistence or Persistence()
    return {
        "ring_start": region.start if region else 0,
        "ring_slots": region.stop - region.start if region else 0,
        "members": 0 if plan.scheduler.is_ring else len(plan.members),
        "flags": _flags(plan, enums["service_flags"]),
        "on_empty": policy[f"POLICY_{plan.on_empty.upper()}"],
        "on_down": policy[f"POLICY_{plan.on_down.upper()}"],
        "on_unknown": policy[f"POLICY_{plan.on_unknown.upper()}"],
        "cost_active": cost.active,
        "cost_inactive": cost.inactive,
        "cost_served": cost.served,
        "cost_fixed": cost.fixed,
        "fallback": indices[plan.fallback] if plan.fallback else NO_BACKEND,
        "client_mask": _mask(keeps.prefix, 1)[0],
        "client_mask6": _mask(keeps.prefix6, 4),
        "persistence": jiffies(keeps.timeout) if plan.persistence else 0,
        "timeouts": _timeouts(plan, enums["connection_state"], jiffies),
    }


def _flags(plan: ServicePlan, flags: Mapping[str, int]) -> int:
    cost = COSTS[plan.scheduler]
    said = {
        "RING": plan.scheduler.is_ring,
        "HASH_ADDRESS": not plan.hashes_port,
        "WEIGHTED": cost.weighted,
        "IDLE_FIRST": cost.idle_first,
        "WITHIN_WEIGHT": cost.within_weight,
        "PERSISTENT": plan.persistence is not None,
        "KEEP_DRAINING": plan.persistence is not None and plan.persistence.on_drain == "keep",
        "ONE_PACKET": plan.one_packet,
    }
    return sum(flags[f"SERVICE_{name}"] for name, is_so in said.items() if is_so)


def _timeouts(plan: ServicePlan, states: Mapping[str, int], jiffies: Callable[[float], int]) -> list[int]:
    seconds = {
        "SYN": plan.timeouts.syn,
        "ESTABLISHED": plan.timeouts.tcp,
        "FIN": plan.timeouts.tcpfin,
        "CLOSED": CLOSED,
        "UDP": plan.timeouts.udp,
    }
    timeouts = [0] * 8
    for name, value in seconds.items():
        timeouts[states[f"CONNECTION_{name}"]] = jiffies(value)
    return timeouts


def _mask(prefix: int, words: int) -> list[int]:
    """An address mask as the program reads it."""
    bits = (1 << 32 * words) - (1 << 32 * words - prefix)
    packed = bits.to_bytes(4 * words, "big")
    return [int.from_bytes(packed[i : i + 4], sys.byteorder) for i in range(0, len(packed), 4)]
