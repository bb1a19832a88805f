# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.hashing`: how evenly the rings of `mh` and `sh` share, and what a change moves; how even
loads are where some of many backends are drawn.

Writes the tables of docs/scheduling.md. Names and weights alone decide, so every machine gets the same figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

from xdpdirector.dataplane.maglev import Ring, fill, table

DOCUMENT = Path(__file__).parents[1] / "docs" / "scheduling.md"
SLOTS = (251, 1021, 4093, 16381, 65537)
BACKENDS = (5, 10, 50, 100, 250)
TRIED = 4  # backends that are removed, one at a time
FAILED = (1, 5, 10)  # per cent
MANY, DRAWN = (64, 256, 4096), (2, 16)
MEAN, LIFETIMES = 16, 4


@dataclass(frozen=True)
class Balance:
    """Shares of the slots, as parts of the mean share."""

    slots: int
    backends: int
    least: float
    most: float


@dataclass(frozen=True)
class Move:
    """Slots with another owner, as parts of all. `needed`: those that had to move."""

    slots: int
    backends: int
    needed: float
    mean: float
    worst: float


def names(count: int) -> list[str]:
    return [f"backend{number}" for number in range(1, count + 1)]


def balances() -> Iterator[Balance]:
    for slots in SLOTS:
        for backends in BACKENDS:
            shares = np.array([*_ring(names(backends), slots).shares().values()])
            mean = slots / backends
            yield Balance(slots, backends, float(shares.min() / mean), float(shares.max() / mean))


def removals() -> Iterator[Move]:
    """A backend is taken out of the configuration: its slots must move, others need not."""
    for slots in SLOTS:
        for backends in BACKENDS:
            whole = _ring(names(backends), slots)
            moved = [
                _moved(whole, _ring([name for name in names(backends) if name != gone], slots))
                for gone in names(backends)[:: -(-backends // TRIED)]
            ]
            yield Move(slots, backends, 1 / backends, float(np.mean(moved)), max(moved))


def failures(slots: int = 65537, backends: int = 250) -> Iterator[tuple[int, Move]]:
    """Some per cent of the backends are down at once."""
    weights = dict.fromkeys(names(backends), 1)
    whole = table(weights, slots)
    for share in FAILED:
        down = max(1, backends * share // 100)
        moved, needed = [], []
        for first in range(TRIED):
            gone = set(names(backends)[first :: backends // down][:down])
            up = [name for name in weights if name not in gone]
            moved.append(_moved(whole, fill(weights, up, slots)))
            needed.append(sum(whole.shares()[name] for name in gone) / slots)
        yield share, Move(slots, backends, float(np.mean(needed)), float(np.mean(moved)), max(moved))


@dataclass(frozen=True)
class Loads:
    """Connections of the backends, after as many came and went as make `MEAN` for each."""

    backends: int
    drawn: int
    deviation: float
    least: int
    most: int


def draws() -> Iterator[Loads]:
    """The least loaded of those drawn gets the connection, and a random one ends. As bpf/draw.h draws, but for the
    hash: the first place, and the distance to the next, are random numbers."""
    for backends in MANY:
        for drawn in DRAWN:
            random, load, running = Random(1), [0] * backends, list[int]()
            for _ in range(LIFETIMES * MEAN * backends):
                first, stride = random.randrange(backends), random.randrange(backends // drawn) + 1
                least = min(((first + n * stride) % backends for n in range(drawn)), key=load.__getitem__)
                load[least] += 1
                running.append(least)
                if len(running) > MEAN * backends:
                    place = random.randrange(len(running))
                    running[place], running[-1] = running[-1], running[place]
                    load[running.pop()] -= 1
            yield Loads(backends, drawn, float(np.std(load)), min(load), max(load))


def _ring(backends: Sequence[str], slots: int) -> Ring:
    return table(dict.fromkeys(backends, 1), slots)


def _moved(before: Ring, after: Ring) -> float:
    """The part of the slots that another backend owns."""
    old, new = np.array([*before.names, ""])[before.owners], np.array([*after.names, ""])[after.owners]
    return float(np.mean(old != new))


def tables() -> dict[str, str]:
    """By name, as Markdown."""
    return {
        "balance": _rows(
            "| slots | backends | least share | largest share |",
            [f"| {b.slots:,} | {b.backends} | {b.least:.3f} | {b.most:.3f} |" for b in balances()],
        ),
        "removal": _rows(
            "| slots | backends | its own share | moved, mean | moved, worst |",
            [
                f"| {m.slots:,} | {m.backends} | {m.needed:.2%} | {m.mean:.2%} | {m.worst:.2%} |"
                for m in removals()
            ],
        ),
        "failure": _rows(
            "| down | their share | moved, mean | moved, worst |",
            [f"| {share} % | {m.needed:.2%} | {m.mean:.2%} | {m.worst:.2%} |" for share, m in failures()],
        ),
        "draws": _rows(
            "| backends | drawn | standard deviation | fewest | most |",
            [
                f"| {each.backends:,} | {each.drawn} | {each.deviation:.2f} | {each.least} | {each.most} |"
                for each in draws()
            ],
        ),
    }


def _rows(head: str, rows: Sequence[str]) -> str:
    return "\n".join([head, "|" + "---:|" * (head.count("|") - 1), *rows])


def document(text: str) -> str:
    """The document with the tables between their marks made anew."""
    for name, rows in tables().items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}{rows}\n{end}{rest.partition(end)[2]}"
    return text


def main() -> None:
    DOCUMENT.write_text(document(DOCUMENT.read_text()))


if __name__ == "__main__":
    main()
