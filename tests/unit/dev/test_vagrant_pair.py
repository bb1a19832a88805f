# SPDX-License-Identifier: Apache-2.0
"""The pair on machines, without machines: what is asked of them, in which order, and how their time is told."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from dev.vagrant import pair
from dev.vagrant.account import Account
from dev.vagrant.pair import LIMITS, MachinePair, TooSlowError
from dev.vagrant.remote_clock import RemoteClock
from dev.vagrant.stage import DIRECTOR, SECOND, Stage
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.pair.report import Seen, judged
from xdpdirector.lab.pair.story import Story
from xdpdirector.lab.sample import Request
from xdpdirector.lab.waiting import wait_until

CLOCK = "import sys, time\nfor line in sys.stdin: print(time.monotonic() + 1000, flush=True)"


def clock(before: str = "") -> list[str]:
    """A machine whose clock is 1000 seconds before ours."""
    return [sys.executable, "-c", f"{before}\n{CLOCK}"]


class TestRemoteClock:
    def test_it_tells_the_time_of_the_machine(self) -> None:
        with RemoteClock(clock()) as remote:
            before = time.monotonic()
            there = remote.now()

        assert abs(there - 1000 - before) < 5

    def test_it_says_how_long_a_machine_stalled(self) -> None:
        once = "import sys, time\nprint(time.monotonic(), flush=True)\ntime.sleep(60)"

        with RemoteClock([sys.executable, "-c", once]) as remote:
            wait_until(lambda: remote.longest_stall() > 1.0, "the second request waits", 30)

    def test_a_machine_whose_clock_does_not_answer_is_an_error(self) -> None:
        with pytest.raises(LabError, match="clock does not answer"), RemoteClock(["false"]):
            pass


class Machines:
    """The VIPs stand on the first director that has power, a running keepalived and a daemon."""

    def __init__(self, *, loads: bool = True) -> None:
        self.loads, self.off = loads, set[str]()
        self.done: list[tuple[str, str]] = []
        self.program = dict.fromkeys((DIRECTOR, SECOND), 7)

    def command(self, name: str, script: str) -> list[str]:
        return clock()

    def run(self, name: str, script: str, timeout: float = 0) -> str:
        assert name not in self.off, f"{name} is asked, and is off"
        if "address show" in script:
            holder = next(each for each in (DIRECTOR, SECOND) if each not in self.off | self.without)
            return "2: eth1 inet 192.0.2.10/32" if name == holder else ""
        if "/v1/fleet" in script:
            way = {"state": "synced", "lag": 0.1}
            return json.dumps({"peers": [{"incoming": way, "outgoing": way}]})
        if "/v1/stats" in script:
            return json.dumps({"verdicts": {"pass": 3, "drop_reset": 1}})
        if "/v1/dataplane" in script:
            return json.dumps({"carriers": [{"program_id": self.program[name]}]})
        self.done.append((name, script.splitlines()[-1]))
        if "dpkg --install" in script and self.loads:
            self.program[name] += 1
        return ""

    @property
    def without(self) -> set[str]:
        """Those whose keepalived was stopped and not started since."""
        turns = [verb for _, verb in self.done if verb.endswith(" keepalived")]
        return {DIRECTOR} if turns[-1:] == ["systemctl stop keepalived"] else set()

    def cut_power(self, name: str) -> None:
        self.off.add(name)
        self.done.append((name, "cut"))

    def power_on(self, name: str, timeout: float) -> None:
        self.off.remove(name)
        self.done.append((name, "on"))


def test_the_story_is_the_one_of_the_lab_and_no_machine_is_asked_that_is_off() -> None:
    machines = Machines()
    stage = Stage(machines, Account(lambda text: None), Path("dist"), 2, pair=True)  # type: ignore[arg-type]

    with MachinePair(stage) as directors:
        story = Story(directors, lambda text: None, watch=0.0)
        story.baseline()
        story.cycle(upgrades=True)

    assert [step.name for step in story.seen] == [
        *("baseline", "kill", "return", "hand over", "hand back", "restart", "upgrade")
    ]
    assert [step.trouble for step in story.seen] == [""] * 7
    assert machines.done == [
        (DIRECTOR, "cut"),
        (DIRECTOR, "on"),
        (DIRECTOR, "systemctl stop keepalived"),
        (DIRECTOR, "systemctl start keepalived"),
        (DIRECTOR, "systemctl restart xdpdirector"),
        (SECOND, "dpkg --install --force-confold /var/tmp/later.deb"),
        (DIRECTOR, "dpkg --install --force-confold /var/tmp/later.deb"),
    ]
    kill = story.seen[1]
    assert kill.died is not None
    assert kill.began <= kill.died <= kill.ended


def test_an_upgrade_that_leaves_the_program_is_no_upgrade() -> None:
    machines = Machines(loads=False)
    stage = Stage(machines, Account(lambda text: None), Path("dist"), 2, pair=True)  # type: ignore[arg-type]

    with (
        MachinePair(stage) as directors,
        pytest.raises(LabError, match="director2 has the program of before"),
    ):
        directors.upgrade()


def request(due: float, took: float = 0.1, outcome: str = "ok") -> Request:
    return Request("fresh", 4, due, due, due, due + took, "backend1", outcome, connected=due + took / 2)


GOOD = [request(0.25 * number) for number in range(400)]


def told(requests: list[Request], *, still: float = 0.0) -> None:
    stage = Stage(Machines(), Account(lambda text: None), Path("dist"))  # type: ignore[arg-type]
    seen = [Seen("hand over", "", 0.0, 100.0, still=still)]
    with stage.account.step("the pair"):
        pair.account(stage, judged(seen, requests, [], pair.RATE, LIMITS))


def test_a_pair_whose_clients_suffered_nothing_passes() -> None:
    told([*GOOD, request(1.0, took=9.0), request(10.0, took=8.0)])


def test_a_fault_is_told_apart_from_slow_machines() -> None:
    waited = [request(1.0, took=30.0), request(40.0, took=30.0)]
    with pytest.raises(LabError, match="new connections waited for 39 s") as fault:
        told([*GOOD, *waited])
    assert fault.type is LabError
    with pytest.raises(TooSlowError):
        told([*GOOD, *waited], still=20.0)
    with pytest.raises(LabError, match="1 requests failed") as broken:
        told([*GOOD, request(1.0, outcome="reset")], still=20.0)
    assert broken.type is LabError
