# SPDX-License-Identifier: Apache-2.0
"""Tunnels of health checks: the program `probe` and its map, see bpf/probe.h.

Implements `xdpdirector.health.probe_tunnels.ProbeTunnels`. Knows numbers and tunnels, nothing of checks.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from xdpdirector import libbpf
from xdpdirector.dataplane.maps import Tables, dtype_of
from xdpdirector.dataplane.tunnel_entry import tunnel_fields
from xdpdirector.net.tunnel import Tunnel

_KEY = np.dtype("u4")


class RealProbeTunnels:
    """`program`: where `probe` is pinned."""

    def __init__(self, tables: Tables, program: Path) -> None:
        self._tables, self._program = tables, program

    def attach(self, ifindex: int) -> None:
        """Encapsulate what arrives at this interface from now on. It ends with the interface. OSError."""
        with libbpf.opened(self._program) as fd:
            libbpf.xdp_attach(ifindex, fd, libbpf.XdpFlags.GENERIC)

    def mac(self, number: int) -> bytes:
        """Destination MAC of frames for this tunnel."""
        mark = int(self._tables.enums["probe_mac"]["PROBE_MAC"])
        return mark.to_bytes(4, "little") + number.to_bytes(2, "big")

    def set(self, number: int, tunnel: Tunnel, mac: bytes, source_mac: bytes) -> None:
        """OSError."""
        entry = np.zeros(1, dtype_of(self._tables.loaded.maps["probes"]["value"]))
        for name, value in tunnel_fields(tunnel, self._tables.enums["tunnel_kind"]).items():
            entry["tunnel"][name] = value
        entry["addresses"] = mac + source_mac
        self._tables.write("probes", np.array([number], _KEY), entry)

    def forget(self, number: int) -> None:
        with contextlib.suppress(OSError):
            self._tables.delete("probes", np.array([number], _KEY))
