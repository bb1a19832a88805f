# SPDX-License-Identifier: Apache-2.0
"""Reads traced decisions of the packet path (bpf/trace.h), and translates numbers to names.

Configures the trace filter and reads the ring buffer. Does not know who receives the trace.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import numpy as np

from xdpdirector import libbpf
from xdpdirector.dataplane.ids import Indices
from xdpdirector.dataplane.jiffies import Clock
from xdpdirector.dataplane.maps import (
    Tables,
    address_of,
    address_words,
    dtype_of,
)
from xdpdirector.dataplane.service_plan import NO_BACKEND
from xdpdirector.dataplane.trace_types import Decision, Selection
from xdpdirector.model.listener import PROTOCOLS

WINDOW = 32  # jiffies: WINDOW_SHIFT in bpf/trace.h
_FIRST = np.uint32(0).tobytes()
_FLAGS = "FSRPAU"  # from the lowest bit
_IPV4, _IPV6 = 1, 2


class Decisions:
    """Trace reader. Close it, or use it as a context manager: closing ends the trace."""

    def __init__(self, tables: Tables, clock: Clock, indices: Indices) -> None:
        self._tables, self._clock, self._indices = tables, clock, indices
        said = tables.loaded.maps
        self._settings = dtype_of(said["traces"]["value"])
        self._record = dtype_of(said["drafts"]["value"])
        self._frame: int = self._record.fields["frame"][1]  # type: ignore[index]
        self._map = libbpf.obj_get(tables.loaded.pins / "traces")
        with libbpf.opened(tables.loaded.pins / "decisions") as fd:
            self._ring = libbpf.RingBuffer(fd)
        self._missed = self._lost()

    def __enter__(self) -> Decisions:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.stop()
        self._ring.close()
        os.close(self._map)

    def select(self, selection: Selection, seconds: float) -> None:
        """Trace the selection for this many seconds. Only services passed to `Dataplane.watch` are traced."""
        settings = np.zeros(1, self._settings)
        settings["until"] = (self._clock.now() + self._clock.jiffies(seconds)) & 0xFFFFFFFF
        settings["reasons"] = self._reasons(selection.reasons)
        settings["most"] = max(1, round(selection.rate * WINDOW / self._clock.hz))
        settings["one_in"] = selection.one_in
        settings["backend"] = self._backend(selection)
        settings["versions"] = _IPV4 | _IPV6
        if selection.client is not None:
            words = len(address_words(selection.client.network_address))
            settings["versions"] = _IPV4 if selection.client.version == 4 else _IPV6
            settings["mask"][0, :words] = address_words(selection.client.netmask)
            settings["client"][0, :words] = address_words(selection.client.network_address)
        libbpf.update(self._map, _FIRST, settings.tobytes())

    def stop(self) -> None:
        """Stop the trace, and discard what was not read."""
        libbpf.update(self._map, _FIRST, np.zeros(1, self._settings).tobytes())
        self._ring.take(1 << 16)

    def take(self, most: int) -> tuple[int, list[Decision]]:
        """The number of decisions lost since the last call, and at most `most` decisions."""
        before, self._missed = self._missed, self._lost()
        ago = time.time() - time.monotonic()
        return self._missed - before, [self._decision(record, ago) for record in self._ring.take(most)]

    def _lost(self) -> int:
        return int(self._tables.per_cpu_sum("tellings", 0)[2])

    def _reasons(self, names: frozenset[str]) -> int:
        """Bit mask of reasons. A name may also be a verdict, the first word of its reasons."""
        known = self._tables.enums["reason"].items()
        return sum(
            1 << number
            for name, number in known
            if name != "REASONS"
            and (not names or not names.isdisjoint({name.lower(), name.partition("_")[0].lower()}))
        )

    def _backend(self, selection: Selection) -> int:
        if selection.backend is None:
            return NO_BACKEND
        return self._indices.backends.get(selection.backend, NO_BACKEND)

    def _decision(self, record: bytes, ago: float) -> Decision:
        row = np.frombuffer(record, self._record)[0]
        frame = record[self._frame : self._frame + int(row["captured"])]  # numpy strips trailing zeros
        packet = row["packet"]
        flow = packet["flow"]["v6" if packet["ipv6"] else "v4"]
        protocols = {number: name for name, number in PROTOCOLS.items()}
        return Decision(
            time=int(row["time"]) / 1e9 + ago,
            client=address_of(flow["client"]),
            client_port=int.from_bytes(flow["client_port"].tobytes(), "big"),
            vip=address_of(flow["vip"]),
            port=int.from_bytes(flow["port"].tobytes(), "big"),
            protocol=protocols.get(int(packet["protocol"]), str(packet["protocol"])),
            flags="".join(letter for bit, letter in enumerate(_FLAGS) if int(packet["flags"]) >> bit & 1),
            reason=self._reason(int(row["reason"])),
            service=_name(self._indices.services, int(row["service"])),
            backend=(_name(self._indices.backends, int(row["backend"])) or (None, None))[1],
            interface=_interface(int(row["ifindex"])),
            length=int(row["length"]),
            frame=frame,
        )

    def _reason(self, number: int) -> str:
        return next(name.lower() for name, value in self._tables.enums["reason"].items() if value == number)


def _name(indices: dict[Any, int], index: int) -> Any:
    return next((name for name, known in indices.items() if known == index), None)


def _interface(ifindex: int) -> str | None:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return None
