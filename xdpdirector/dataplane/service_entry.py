# SPDX-License-Identifier: Apache-2.0
"""Encodes a service's plan as fields of `struct service` in bpf/types.h. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpdirector.dataplane.masks import mask_words
from xdpdirector.dataplane.member_map import Listed
from xdpdirector.dataplane.rings import RingPlace
from xdpdirector.dataplane.service_plan import COSTS, NO_BACKEND, ServicePlan
from xdpdirector.model import Persistence, Scheduler, Timeouts
from xdpdirector.model.quic import QuicSpec

STATES = 16  # MAX_STATES in bpf/types.h
CLOSED = 10.0  # seconds that a record is kept after a RST, as in IPVS
LOCALITY_LASTS = 24 * 3600.0  # seconds; net.ipv4.vs.lblcr_expiration unless set
ASSURED_AFTER = 2.0  # seconds after a flow's second packet, as for UDP in the kernel's conntrack

Enums = Mapping[str, Mapping[str, int]]


def service_fields(
    plan: ServicePlan,
    ring: RingPlace | None,
    indices: Mapping[str, int],
    listed: Listed,
    enums: Enums,
    jiffies: Callable[[float], int],
    *,
    denies: bool,
    watched: bool,
    directed: bool,
) -> dict[str, Any]:
    """`ring`: the ring in use, which may differ from the planned one. `indices`: backend indices by name.
    `listed`: its list of members. `denies`: the guard denies some prefix. `watched`: its decisions are traced.
    `directed`: this host is a backend too, so other directors may have scheduled frames to it."""
    cost, policy, keeps = COSTS[plan.scheduler], enums["policy"], plan.persistence or Persistence()
    return {
        **ring_fields(ring),
        "members": listed.members,
        "resting": listed.resting,
        "flags": service_flags(plan, ring, enums["service_flags"]),
        "on_empty": policy[f"POLICY_{plan.on_empty.upper()}"],
        "on_down": policy[f"POLICY_{plan.on_down.upper()}"],
        "on_unknown": policy[f"POLICY_{plan.on_unknown.upper()}"],
        "cost_active": cost.active,
        "cost_inactive": cost.inactive,
        "cost_served": cost.served,
        "cost_fixed": cost.fixed,
        "choice": enums["service_choice"][f"CHOICE_{cost.choice}"],
        "locality_lasts": jiffies(LOCALITY_LASTS) if plan.scheduler is Scheduler.LBLCR else 0,
        "fallback": indices[plan.fallback] if plan.fallback else NO_BACKEND,
        "guard": guard_flags(
            enums["guard_flags"],
            denies=denies,
            watched=watched,
            directed=directed,
            quic=plan.quic is not None,
        ),
        "admission": admission_flags(plan, ring, enums["admission_flags"]),
        **quic_fields(plan.quic, enums["quic_flags"]),
        "client_mask": mask_words(keeps.prefix, 1)[0],
        "client_mask6": mask_words(keeps.prefix6, 4),
        "persistence": jiffies(keeps.timeout) if plan.persistence else 0,
        "assured_after": _ticks(ASSURED_AFTER, enums, jiffies),
    }


def timeout_fields(
    enums: Enums, jiffies: Callable[[float], int], timeouts: Timeouts
) -> dict[str, npt.NDArray[np.uint32]]:
    """The fields that depend on nothing but the time-outs."""
    tables = {"timeouts": _timeouts(timeouts, enums, jiffies), "stays": _stays(timeouts, enums, jiffies)}
    return {name: np.array(table, np.uint32) for name, table in tables.items()}


def ring_fields(ring: RingPlace | None) -> dict[str, int]:
    """Both fields share one word, so they change atomically for packets."""
    region = ring.region if ring else slice(0, 0)
    return {"ring_start": region.start, "ring_slots": region.stop - region.start}


def admission_flags(plan: ServicePlan, ring: RingPlace | None, flags: Mapping[str, int]) -> int:
    """What becomes of packets that open a connection."""
    said = {"LIMITS": plan.limit is not None, "PASSIVE": plan.passive and ring is not None}
    return sum(flags[f"ADMIT_{name}"] for name, is_so in said.items() if is_so)


def guard_flags(flags: Mapping[str, int], *, denies: bool, watched: bool, directed: bool, quic: bool) -> int:
    """Which checks beyond the service's own the packet path must make."""
    said = {
        "PREFIXES": denies,
        "TRACE": watched,
        "DIRECTED": directed,
        "QUIC": quic,
    }
    return sum(flags[f"GUARD_{name}"] for name, is_so in said.items() if is_so)


def quic_fields(quic: QuicSpec | None, flags: Mapping[str, int]) -> dict[str, int]:
    """What the service's connection IDs look like. The four fields share one word."""
    if quic is None:
        return {"quic_flags": 0, "quic_at": 0, "quic_length": 0, "quic_config": 0}
    is_lb = quic.cids == "quic-lb"
    said = flags["QUIC_LB"] * is_lb | flags["QUIC_ENCODES_LENGTH"] * quic.encodes_length
    return {
        "quic_flags": said,
        "quic_at": quic.begin,
        "quic_length": quic.length,
        "quic_config": quic.config_id or 0,
    }


def service_flags(plan: ServicePlan, ring: RingPlace | None, flags: Mapping[str, int]) -> int:
    """Scheduling flags. The hash flag is that of the ring in use."""
    cost = COSTS[plan.scheduler]
    said = {
        "RING": plan.scheduler.is_ring,
        "HASH_ADDRESS": ring is not None and not ring.hashes_port,
        "UNBOUNDED": not any(member.upper for member in plan.members),
        "IDLE_FIRST": cost.idle_first,
        "WITHIN_WEIGHT": cost.within_weight,
        "PERSISTENT": plan.persistence is not None,
        "KEEP_DRAINING": plan.persistence is not None and plan.persistence.on_drain == "keep",
        "ONE_PACKET": plan.one_packet,
    }
    return sum(flags[f"SERVICE_{name}"] for name, is_so in said.items() if is_so)


def _timeouts(times: Timeouts, enums: Enums, jiffies: Callable[[float], int]) -> list[int]:
    """Time-out of a record by state. States before `ASSURED_*` add the time by which `seen` may lag behind.

    A SYN after the end may be a retry of a client that was never answered, or spoofed, as the end itself may
    be, while the connection is alive: so REOPENED states keep the time-out of a live connection.
    """
    return _by_state(
        enums,
        jiffies,
        {
            "SYN": times.syn,
            "MIDSTREAM": times.tcp,
            "DATAGRAM": times.udp,
            "ESTABLISHED": times.tcp + ASSURED_AFTER,
            "UDP": times.udp + ASSURED_AFTER,
            "FIN": times.tcpfin,
            "CLOSED": CLOSED,
            "REOPENED": max(times.tcp, times.tcpfin),
            "ASSURED_REOPENED": max(times.tcp, times.tcpfin),
            "USED_ESTABLISHED": times.tcp + ASSURED_AFTER,
            "USED_UDP": times.udp + ASSURED_AFTER,
            "ASSURED_ESTABLISHED": times.tcp,
            "ASSURED_UDP": times.udp,
            "ASSURED_FIN": times.tcpfin,
            "ASSURED_CLOSED": max(times.tcpfin, CLOSED),
        },
    )


def _stays(times: Timeouts, enums: Enums, jiffies: Callable[[float], int]) -> list[int]:
    """By state: how long data packets only update a record's time; see bpf/types.h."""
    now = 1 << enums["tick_numbers"]["SEEN_BITS"] - 1
    ticks = _by_state(
        enums,
        jiffies,
        {
            "USED_ESTABLISHED": ASSURED_AFTER,
            "USED_UDP": ASSURED_AFTER,
            "ASSURED_ESTABLISHED": times.tcp,
            "ASSURED_UDP": times.udp,
        },
    )
    return [now + number if number else 0 for number in ticks]


def _by_state(enums: Enums, jiffies: Callable[[float], int], seconds: Mapping[str, float]) -> list[int]:
    """Times in ticks by state number: at least 1 where a time is given, else 0."""
    ticks = [0] * STATES
    for name, value in seconds.items():
        ticks[enums["connection_state"][f"CONNECTION_{name}"]] = _ticks(value, enums, jiffies)
    return ticks


def _ticks(seconds: float, enums: Enums, jiffies: Callable[[float], int]) -> int:
    return max(1, round(jiffies(seconds) / (1 << enums["tick_numbers"]["TICK_SHIFT"])))
