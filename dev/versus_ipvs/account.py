# SPDX-License-Identifier: Apache-2.0
"""What was measured, and what follows from it: instructions for each packet, net of the harness; ratios. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

ESTABLISHED, NEW = "established", "new flows"
DROPPED = "nobody: dropped at the near end"
OURS, THEIRS = "XDP Director", "IPVS"
SCHEDULERS = ("mh", "wlc")
TARGET = 8.0  # times fewer instructions than IPVS, for established flows
HOW = (
    "One emulated machine with one processor, whose clock counts instructions (QEMU -icount); Debian's kernel. "
    "Frames of 60 bytes are sent by test-run's live frames from one end of a veth pair, forwarded at the other to "
    "16 backends, counted and dropped by an XDP program where they come back. Minimum of rounds. Net is without "
    "what a frame costs that is dropped on its arrival at the near end: sending it, and one crossing. Still in the "
    "net figures is the way back, which for IPVS ends in the making of an XDP frame out of an sk_buff, and begins "
    "with the making of an sk_buff out of an XDP frame, where a NIC's driver would make one as well."
)


@dataclass(frozen=True)
class Plan:
    """`flows`: 1 and powers of two from 16,384 on, growing. `packets` of one measurement, a power of two."""

    flows: Sequence[int] = (1, 1 << 14, 1 << 17, 1 << 19)
    packets: int = 1 << 16
    rounds: int = 3


@dataclass(frozen=True)
class Figure:
    """`values`: instructions for each packet, one value a round."""

    who: str
    what: str
    flows: int
    values: Sequence[float]

    @property
    def least(self) -> float:
        return min(self.values)


@dataclass(frozen=True)
class Account:
    figures: Sequence[Figure]
    kernel: str

    @property
    def reference(self) -> float:
        """What the harness costs."""
        return self.find(DROPPED, ESTABLISHED, 1).least

    @property
    def columns(self) -> list[tuple[str, int]]:
        return list(dict.fromkeys((figure.what, figure.flows) for figure in self.figures))

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(figure.who for figure in self.figures))

    def find(self, who: str, what: str, flows: int) -> Figure:
        wanted = (who, what, flows)
        return next(figure for figure in self.figures if (figure.who, figure.what, figure.flows) == wanted)

    def net(self, figure: Figure) -> float:
        return figure.least - self.reference

    def ratio(self, scheduler: str, what: str, flows: int) -> float:
        """How many times more instructions IPVS needs, net."""
        theirs, ours = (self.find(f"{who} {scheduler}", what, flows) for who in (THEIRS, OURS))
        return self.net(theirs) / self.net(ours)

    @property
    def worst(self) -> float:
        """The least of the ratios that the target is about."""
        return min(
            self.ratio(scheduler, what, flows)
            for scheduler in SCHEDULERS
            for what, flows in self.columns
            if what == ESTABLISHED
        )

    @property
    def met(self) -> bool:
        return self.worst >= TARGET

    def document(self) -> dict[str, Any]:
        """Everything, for machines."""
        ratios = {
            f"{scheduler}, {what}, {flows}": round(self.ratio(scheduler, what, flows), 2)
            for scheduler in SCHEDULERS
            for what, flows in self.columns
        }
        return {
            "kernel": self.kernel,
            "how": HOW,
            "reference": self.reference,
            "figures": [{**asdict(figure), "net": round(self.net(figure), 1)} for figure in self.figures],
            "ratios": ratios,
            "target": {"at least": TARGET, "worst": round(self.worst, 2), "met": self.met},
        }
