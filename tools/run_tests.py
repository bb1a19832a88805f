# SPDX-License-Identifier: Apache-2.0
"""`./lab test` without pytest's arguments: lint, then the tiers of the project's tests, the cheapest first.

Each tier is one run of pytest with a worker for each processor, in namespaces of its own (tests/conftest.py). What
a run takes is said before it starts, and what it left out at its end. The last line is `N passed, N failed, N
skipped`.
tests/README.md says what the tiers and marks mean.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
EXPECTED = CHECKOUT / "tests/seconds.json"  # on two processors with nothing else to do
MEASURED = CHECKOUT / ".lab/seconds.json"  # here, the last time
REPORT = "XDPDIRECTOR_TEST_REPORT"  # tests/conftest.py writes there what ran

LINT = "lint"
NETWORK = "network"
TIERS = ("unit", "packets", "namespaces", "browser", NETWORK)
COMMON = "not slow and not soak"
MARKS: dict[str, Mapping[str, str]] = {
    "default": {"unit": COMMON, "packets": COMMON, "namespaces": f"smoke and {COMMON}"},
    "all": dict.fromkeys(TIERS, "not soak"),
    "soak": dict.fromkeys(TIERS[:-1], "(soak or hypothesis)"),
}
NOTHING_CHOSEN = 5  # pytest's status


@dataclass(frozen=True)
class Outcome:
    """Of one tier. `processor`: seconds of processors, of all processes; `report`: what tests/conftest.py says."""

    tier: str
    status: int
    seconds: float
    processor: float
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> int:
        return self._count("passed")

    @property
    def failed(self) -> int:
        """At least one when the tier did not end well, whatever it could still say."""
        return self._count("failed") + self._count("error") or int(self.status != 0)

    @property
    def skipped(self) -> list[list[str]]:
        """Names and reasons."""
        return list(self.report.get("skipped", []))

    @property
    def left_out(self) -> Counter[str]:
        """How many tests, by the run that has them. The network's are among those of the others."""
        return Counter() if self.tier == NETWORK else Counter(self.report.get("deselected", {}))

    def _count(self, outcome: str) -> int:
        return int(self.report.get("outcomes", {}).get(outcome, 0))


def say(text: str = "") -> None:
    print(f"test: {text}" if text else "", flush=True)


def clock(seconds: float) -> str:
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


def expected(run: str) -> dict[str, float]:
    """Seconds by tier."""
    return {
        tier: seconds
        for path in (EXPECTED, MEASURED)
        for tier, seconds in read(path).get("tiers", {}).get(run, {}).items()
    }


def remember(run: str, outcomes: Sequence[Outcome]) -> None:
    """For the next run's expectations: also the seconds of each file, by which long ones start first."""
    known = read(MEASURED)
    known.setdefault("tiers", {}).setdefault(run, {}).update(
        {each.tier: round(each.seconds) for each in outcomes if each.status == 0}
    )
    if run != "soak":
        files = known.setdefault("files", {})
        for each in outcomes:
            files |= {name: round(seconds, 1) for name, seconds in each.report.get("seconds", {}).items()}
    MEASURED.parent.mkdir(exist_ok=True)
    MEASURED.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


def command(run: str, tier: str, workers: int, seed: int) -> list[str]:
    if tier == LINT:
        return [str(CHECKOUT / "lab"), "lint"]
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--randomly-seed={seed}"]
    pytest += ["--hypothesis-profile=soak"] if run == "soak" else []
    if tier == NETWORK:
        isolated = [str(CHECKOUT / "tools/isolated"), "--with-network"]
        return [
            *isolated,
            *pytest,
            "-m",
            f"{NETWORK} and {MARKS[run][tier]}",
            "tests/unit",
            "tests/namespaces",
        ]
    return [*pytest, "-n", str(workers), "-m", f"{MARKS[run][tier]} and not {NETWORK}", f"tests/{tier}"]


def carry_out(tier: str, line: Sequence[str]) -> Outcome:
    before, begun = processor_seconds(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="xdpdirector-tests.") as directory:
        path = Path(directory) / "report.json"
        status = subprocess.run(
            ["setpriv", "--pdeathsig", "KILL", *line],
            cwd=CHECKOUT,
            env=os.environ | {REPORT: str(path)},
            stdin=subprocess.DEVNULL,
            check=False,
        ).returncode
        report = read(path)
    if status == NOTHING_CHOSEN and report:
        status = 0
    return Outcome(tier, status, time.monotonic() - begun, processor_seconds() - before, report)


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def announce(run: str, tiers: Sequence[str], workers: int, seed: int) -> None:
    takes = expected(run)
    parts = [f"{tier} ({clock(takes[tier]) if tier in takes else 'unknown'})" for tier in tiers]
    total = f", {clock(sum(takes[tier] for tier in tiers))} in all" if all(t in takes for t in tiers) else ""
    say(f"{', '.join(parts)}{total}; {workers} workers, order {seed}")


def conclude(run: str, outcomes: Sequence[Outcome], seed: int) -> None:
    """What ran and what did not; the last line is for programs, too."""
    takes = expected(run)
    say()
    for each in outcomes:
        wanted = f" ({clock(takes[each.tier])} expected)" if each.tier in takes else ""
        told = f"{each.passed} passed, {each.failed} failed, {len(each.skipped)} skipped"
        result = ("ok" if each.status == 0 else "failed") if each.tier == LINT else told
        say(f"{each.tier}: {result}, in {clock(each.seconds)}{wanted}, {each.processor:.0f} s of processors")
    for name, reason in (skip for each in outcomes for skip in each.skipped):
        say(f"skipped: {name}: {reason}")
    left_out = sum((each.left_out for each in outcomes), Counter[str]())
    for other, how in (("all", "./lab test --all"), ("soak", "./lab test --soak")):
        if left_out[other] and run != other:
            say(f"left out: {left_out[other]} tests; {how} has them")
    say("left out: tests/vm, on the kernel of a virtual machine; ./lab vm has it")
    if any(each.status for each in outcomes):
        say(f"the same order again: ./lab test -p randomly --randomly-seed={seed} FILE...")
    passed, failed, skipped = (
        sum(each.passed for each in outcomes),
        sum(each.failed for each in outcomes),
        sum(len(each.skipped) for each in outcomes),
    )
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./lab test", description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_const", const="all", dest="run", help="everything but soak")
    which.add_argument("--soak", action="store_const", const="soak", dest="run", help="the long ones")
    parser.add_argument("--tier", action="append", choices=(LINT, *TIERS), help="only this one; repeatable")
    parser.add_argument("--seed", type=int, help="of the order; chosen at random by default")
    wanted = parser.parse_args()
    run = wanted.run or "default"
    tiers = wanted.tier or ([] if run == "soak" else [LINT]) + list(MARKS[run])
    if strange := {*tiers} - {LINT, *MARKS[run]}:
        parser.error(f"this run has no tier {', '.join(strange)}: it has {', '.join(MARKS[run])}")
    workers = max(2, os.cpu_count() or 1)
    seed = random.getrandbits(32) if wanted.seed is None else wanted.seed

    announce(run, tiers, workers, seed)
    outcomes = []
    for tier in tiers:
        say()
        say(f"{tier} ...")
        outcomes.append(carry_out(tier, command(run, tier, workers, seed)))
    conclude(run, outcomes, seed)
    remember(run, outcomes)
    return int(any(each.status for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
