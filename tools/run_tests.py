# SPDX-License-Identifier: Apache-2.0
"""`./lab test` without pytest's arguments: lint, then the tiers of the project's tests, the cheapest first.

Each tier is one run of pytest with a worker for each processor, in namespaces of its own (tests/conftest.py). The
network's tier, which waits for downloads, runs beside the browser's; its output comes when it has ended. What a run
takes is said before it starts, and what it left out at its end. The last line is `N passed, N failed, N skipped`.
tests/README.md says what the tiers and marks mean.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
BESIDE = {NETWORK: "browser"}
"""Tiers that run beside the one before them, when that is in the run."""
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
            for name, seconds in each.report.get("seconds", {}).items():
                if run == "all" or name not in files:  # the default run has some tests of a file only
                    files[name] = round(seconds, 1)
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


class Tier:
    """A run of a tier, which has begun. `hushed`: its output is shown by `end`."""

    def __init__(self, name: str, line: Sequence[str], *, hushed: bool = False) -> None:
        self._name, self._begun = name, time.monotonic()
        self._directory = tempfile.TemporaryDirectory(prefix="xdpdirector-tests.")
        self._report, self._said = (Path(self._directory.name) / each for each in ("report.json", "output"))
        with self._said.open("wb") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *line],
                cwd=CHECKOUT,
                env=os.environ | {REPORT: str(self._report)},
                stdin=subprocess.DEVNULL,
                stdout=output if hushed else None,
                stderr=subprocess.STDOUT if hushed else None,
            )
        self._waiting: Future[tuple[int, float, float]] = _WAITING.submit(self._wait)

    def _wait(self) -> tuple[int, float, float]:
        """Status, seconds, and processors' seconds of all its processes."""
        _, status, used = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process.returncode, time.monotonic() - self._begun, used.ru_utime + used.ru_stime

    def end(self) -> Outcome:
        with self._directory:
            status, seconds, processor = self._waiting.result()
            print(self._said.read_text(errors="replace"), end="", flush=True)
            report = read(self._report)
        if status == NOTHING_CHOSEN and report:
            status = 0
        return Outcome(self._name, status, seconds, processor, report)


_WAITING = ThreadPoolExecutor(thread_name_prefix="waiting for a tier")


def carry_out(tiers: Sequence[str], lines: Mapping[str, Sequence[str]]) -> Iterator[Outcome]:
    """One after the other, but for those of `BESIDE`."""
    begun: dict[str, Tier] = {}
    for tier in tiers:
        say()
        say(f"{tier} ...")
        for other in (each for each in tiers if BESIDE.get(each) == tier):
            begun[other] = Tier(other, lines[other], hushed=True)
        yield (begun.pop(tier, None) or Tier(tier, lines[tier])).end()


def announce(run: str, tiers: Sequence[str], workers: int, seed: int) -> None:
    takes = expected(run)
    parts = [f"{tier} ({clock(takes[tier]) if tier in takes else 'unknown'})" for tier in tiers]
    one_by_one = [tier for tier in tiers if BESIDE.get(tier) not in tiers]
    total = sum(max(takes.get(t, 0) for t in tiers if tier in (t, BESIDE.get(t))) for tier in one_by_one)
    whole = f", {clock(total)} in all" if all(tier in takes for tier in tiers) else ""
    say(f"{', '.join(parts)}{whole}; {workers} workers, order {seed}")


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
    lines = {tier: command(run, tier, workers, seed) for tier in tiers}
    outcomes = list(carry_out(tiers, lines))
    conclude(run, outcomes, seed)
    remember(run, outcomes)
    return int(any(each.status for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
