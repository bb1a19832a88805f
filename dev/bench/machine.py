# SPDX-License-Identifier: Apache-2.0
"""Where numbers were measured, and how quiet it was there."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

CPUINFO, STAT = Path("/proc/cpuinfo"), Path("/proc/stat")
JIT = Path("/proc/sys/net/core/bpf_jit_enable")


@dataclass(frozen=True)
class Machine:
    """`cpu`: the one that was measured on. `load`: processes that wanted to run over the last minute."""

    model: str
    kernel: str
    cpus: int
    cpu: int
    load: float
    jit: bool | None

    def document(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def here(cls, cpu: int) -> Machine:
        return cls(
            model_of(CPUINFO.read_text()),
            platform.release(),
            os.cpu_count() or 1,
            cpu,
            round(os.getloadavg()[0], 2),
            compiles(),
        )


def compiles(setting: Path = JIT) -> bool | None:
    """Whether BPF programs are compiled; None where nobody says: a network namespace has no such setting."""
    try:
        return setting.read_text().strip() != "0"
    except FileNotFoundError:
        return None


def model_of(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def allowed_cpus() -> list[int]:
    """Those that this process may run on, in order. Interrupts and other processes like the first one."""
    return sorted(os.sched_getaffinity(0))


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """This thread and what it starts stay on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Stolen:
    """Share of a CPU's time that the hypervisor has given to others since this was made."""

    def __init__(self, cpu: int) -> None:
        self._cpu = cpu
        self._begin = _ticks(STAT.read_text(), cpu)

    def share(self) -> float:
        passed = [
            end - begin for begin, end in zip(self._begin, _ticks(STAT.read_text(), self._cpu), strict=True)
        ]
        return round(passed[-1] / sum(passed), 4) if sum(passed) else 0.0


def _ticks(stat: str, cpu: int) -> list[int]:
    """proc(5): user nice system idle iowait irq softirq steal."""
    line = next(line for line in stat.splitlines() if line.startswith(f"cpu{cpu} "))
    return [int(field) for field in line.split()[1:9]]
