# SPDX-License-Identifier: Apache-2.0
"""Runs the explaining program (bpf/explain.h) on a frame. That program changes no lasting state.

Knows the program and its output as numbers and names, not what they mean.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np

from xdpdirector import libbpf
from xdpdirector.dataplane.explain_types import Finding, Slot
from xdpdirector.dataplane.ids import Indices
from xdpdirector.dataplane.maps import Tables, dtype_of
from xdpdirector.dataplane.service_plan import NO_BACKEND

_ACTIONS = {1: "drop", 2: "pass", 3: "tx", 4: "redirect"}  # enum xdp_action of linux/bpf.h
_FIRST = np.uint32(0).tobytes()


class Explainer:
    """`program`: pin of the explaining program. Close it, or use it as a context manager."""

    def __init__(self, program: Path, tables: Tables, indices: Indices) -> None:
        self._tables, self._indices = tables, indices
        self._type = dtype_of(tables.loaded.maps["explanations"]["value"])
        self._program = libbpf.obj_get(program)
        self._notes = libbpf.obj_get(tables.loaded.pins / "explanations")

    def __enter__(self) -> Explainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._program)
        os.close(self._notes)

    def ask(self, frame: bytes, interface: str) -> Finding:
        """Explain a frame received on this interface. OSError if the kernel cannot run the program on it."""
        blank = np.zeros(1, self._type)
        blank["backend"] = NO_BACKEND
        libbpf.update(self._notes, _FIRST, blank.tobytes())
        result = libbpf.prog_test_run(self._program, frame, socket.if_nametoindex(interface))
        raw = libbpf.lookup(self._notes, _FIRST, self._type.itemsize)
        assert raw is not None  # an array map has all its entries
        return self._finding(
            _ACTIONS[result.verdict], result.frame, np.frombuffer(raw, self._type)[0], interface
        )

    def _finding(self, action: str, frame: bytes, note: Any, interface: str) -> Finding:
        facts = self._facts(int(note["facts"]))
        return Finding(
            action=action,
            reason=self._reason(int(note["reason"])),
            facts=facts,
            service=self._service(int(note["service"])) if "service" in facts else None,
            backend=self._backend(int(note["backend"])),
            slot=self._slot(note) if "slot" in facts else None,
            frame=frame,
            interface=interface,
            way_out=self._way_out(action, int(note["backend"]), interface),
        )

    def _facts(self, bits: int) -> frozenset[str]:
        facts = self._tables.enums["fact"].items()
        return frozenset(name.removeprefix("FACT_").lower() for name, bit in facts if bits & bit)

    def _reason(self, number: int) -> str:
        return next(name.lower() for name, value in self._tables.enums["reason"].items() if value == number)

    def _service(self, index: int) -> str | None:
        return next((name for name, known in self._indices.services.items() if known == index), None)

    def _backend(self, index: int) -> str | None:
        return next((key[1] for key, known in self._indices.backends.items() if known == index), None)

    def _slot(self, note: Any) -> Slot:
        start = int(self._tables.services[int(note["service"])]["ring_start"])
        slot = note["slot"]
        return Slot(
            number=int(note["position"]) - start,
            backend=self._backend(int(slot["backend"])),
            before=self._backend(int(slot["before"])),
            in_flux=bool(int(slot["flags"]) & self._tables.enums["slot_flags"]["SLOT_FLUX"]),
        )

    def _way_out(self, action: str, backend: int, interface: str) -> str | None:
        if action == "redirect":
            return socket.if_indextoname(int(self._tables.backends[backend]["ifindex"]))
        return interface if action == "tx" else None
