# SPDX-License-Identifier: Apache-2.0
"""The kernel's numbers by name (linux/bpf.h, linux/if_link.h), as far as a director can meet them."""

from __future__ import annotations

from enum import IntEnum, IntFlag


class MapType(IntEnum):
    """enum bpf_map_type."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    HASH_OF_MAPS = 13
    DEVMAP = 14
    CPUMAP = 16
    XSKMAP = 17
    QUEUE = 22
    DEVMAP_HASH = 25
    RINGBUF = 27


PER_CPU_TYPES = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})


class Update(IntEnum):
    """What an update may do with an entry that is there, or not (BPF_ANY, BPF_NOEXIST, BPF_EXIST)."""

    ANY = 0
    NEW = 1
    EXISTING = 2


class XdpFlags(IntFlag):
    """XDP_FLAGS_* of linux/if_link.h."""

    NONE = 0
    UPDATE_IF_NOEXIST = 1
    GENERIC = 2
    NATIVE = 4
    REPLACE = 16


class XdpMode(IntEnum):
    """XDP_ATTACHED_* of linux/if_link.h. MULTI: a native or generic program beside one in hardware."""

    NONE = 0
    NATIVE = 1
    GENERIC = 2
    HARDWARE = 3
    MULTI = 4


class XdpVerdict(IntEnum):
    """enum xdp_action."""

    ABORTED = 0
    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4


TEST_RUN_LIVE_FRAMES = 2
BPF_PROG_TYPE_XDP = 6
