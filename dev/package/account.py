# SPDX-License-Identifier: Apache-2.0
"""What became of the client's packets, from what client and backends counted. Numbers only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Account:
    """`problems`: a sentence each; none when every datagram arrived, each flow at one backend, and both
    conversations went on with whom they began."""

    sent: int
    lost: int
    seconds: float
    late: float
    problems: tuple[str, ...]

    def __str__(self) -> str:
        rate = self.sent / self.seconds if self.seconds else 0
        return (
            f"{self.sent} datagrams in {self.seconds:.0f} s ({rate:.0f} a second, at most {self.late:.1f} s late), "
            f"{self.lost} lost; {'; '.join(self.problems) or 'no flow and no connection moved or broke'}"
        )


def account(sent: Mapping[str, Any], received: Sequence[Mapping[str, Any]]) -> Account:
    """`sent` is what `scene.py send` printed, `received` what each `scene.py serve` did."""
    lost = 0
    problems = []
    for flow in range(sent["flows"]):
        ranges = {each["name"]: each["flows"].get(str(flow), []) for each in received}
        homes = [name for name, got in ranges.items() if got]
        arrived = sum(last - first + 1 for got in ranges.values() for first, last in got)
        lost += sent["each"] - arrived
        if len(homes) != 1:
            problems.append(f"flow {flow} was seen at {' and '.join(homes) or 'no backend'}")
    if lost:
        problems.append(f"{lost} datagrams did not arrive")
    if sent["refused"]:
        problems.append(f"{sent['refused']} were answered by an ICMP error")
    for talk in sent["talks"]:
        if talk["error"] or len(talk["by"]) != 1:
            problems.append(
                f"a conversation with {' and '.join(talk['by']) or 'nobody'} broke: {talk['error']}"
            )
    return Account(sent["flows"] * sent["each"], lost, sent["seconds"], sent["late"], tuple(problems))
