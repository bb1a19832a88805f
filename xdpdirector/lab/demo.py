# SPDX-License-Identifier: Apache-2.0
"""The demo: real clients, real servers, a director, and everything that is done to them while they work.

`Demo.run` is its steps in order; each step does one thing through the API or to the lab and then lets the
clients go on for a while. What it means is decided by `expectations`, from the timeline and the clients' requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from xdpdirector.client import backend_path, service_path
from xdpdirector.errors import DirectorError, TimedOutError
from xdpdirector.lab import dashboard, expectations
from xdpdirector.lab.clients import Clients
from xdpdirector.lab.configuration import SERVICE, TARGETS, HealthCheck, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.report import Report, report
from xdpdirector.lab.sample import Request
from xdpdirector.lab.timeline import (
    DemoRun,
    Drained,
    Joined,
    Killed,
    Restarted,
    Reweighted,
    Step,
    Trouble,
)
from xdpdirector.lab.waiting import wait_until

ALLOWANCE = 0.2
ROUNDS = 5  # of watching, until the shares are what they should be: loads need some time to even out
LONGEST = 3600.0  # seconds of the clients' work, on the slowest machine
ADDED, DRAINED, KILLED, REWEIGHTED = "backend4", "backend1", "backend2", "backend3"
HEAVY = 4
KEPT_PAUSE = 0.2
Say = Callable[[str], None]


@dataclass(frozen=True)
class Pace:
    """How long each step is watched, and how soon the director notices and forgets; seconds."""

    watch: float
    without_daemon: float
    check: HealthCheck
    timeouts: dict[str, str]
    reuse: int  # requests on a kept connection
    drain: float = 45.0
    recovery: float = 15.0


CALM = Pace(6.0, 2.0, HealthCheck(), {"tcp": "8s", "tcpfin": "2s", "syn": "4s", "udp": "8s"}, reuse=20)
QUICK = Pace(
    2.0,
    1.0,
    HealthCheck(interval=0.3, timeout=0.2),
    {"tcp": "3s", "tcpfin": "1s", "syn": "3s", "udp": "3s"},
    reuse=10,
)


@dataclass(frozen=True)
class Options:
    """`numbered`: the name gets a number if another lab has it."""

    name: str = "demo"
    numbered: bool = False
    scheduler: str = "wlc"
    rate: float = 200.0
    kept: int = 12  # a multiple of 3 and 4, so that "least busy" can share them out evenly
    pace: Pace = CALM


def run_demo(options: Options, say: Say) -> Report:
    """Build the lab, run the steps, take the lab down; `say` gets lines about the progress."""
    say("building the lab: client, director, 4 backends and a switch, each a network namespace")
    with Lab(options.name, backends=4, numbered=options.numbered) as lab:
        for host in lab.backends:
            lab.nginx(host.name)
        say(f"nginx serves on {len(lab.backends)} backends; starting the director (it compiles its program)")
        configuration = web_configuration(
            lab.topology.backend_nodes[:3],
            scheduler=options.scheduler,
            check=options.pace.check,
            timeouts=options.pace.timeouts,
        )
        director = lab.director(configuration)
        director.wait_serving()
        say(f"clients begin: {options.rate:g} new connections a second and {options.kept} kept ones")
        with (
            dashboard.shown(director, say),
            Clients(
                lab.client,
                list(TARGETS),
                rate=options.rate,
                kept=options.kept,
                pause=KEPT_PAUSE,
                reuse=options.pace.reuse,
                longest=LONGEST,
            ) as clients,
        ):
            demo = Demo(lab, director, clients, options, say)
            demo.run()
        statistics = _statistics(director)
        director.stop()
        return report(demo.demo_run(), clients.requests(), statistics)


def _statistics(director: LabDirector) -> dict[str, Any]:
    try:
        answer = director.client.get("/v1/stats")
    except DirectorError:
        return {}
    return answer if isinstance(answer, dict) else {}


@dataclass
class _Facts:
    """The steps while they run."""

    added: Joined | None = None
    drained: Drained | None = None
    killed: Killed | None = None
    returned: Joined | None = None
    restarted: Restarted | None = None
    reweighted: Reweighted | None = None
    trouble: list[Trouble] = field(default_factory=list)


class Demo:
    """One telling: the lab is up, three of four backends serve, the clients are at work."""

    def __init__(self, lab: Lab, director: LabDirector, clients: Clients, options: Options, say: Say) -> None:
        self._lab, self._director, self._clients, self._api = lab, director, clients, director.client
        self._options, self._pace, self._say = options, options.pace, say
        self._weights = {node.name: 1 for node in lab.topology.backend_nodes[:3]}
        self._facts = _Facts()
        self._steps: list[Step] = []
        self._began = self._mark = self._settled = time.monotonic()

    def run(self) -> None:
        """Run all steps. A step that fails is recorded, and the next one runs."""
        self._tell("baseline", "three backends serve", self._baseline)
        self._tell("add", f"{ADDED} is added by REST", self._add)
        self._tell("drain", f"{DRAINED} is drained by REST", self._drain)
        self._tell("remove", f"{DRAINED} is removed by REST", self._remove)
        self._tell("kill", f"{KILLED}: server killed and cable pulled", self._kill)
        self._tell("return", f"{KILLED} comes back", self._return)
        self._tell("restart", "the daemon is killed with SIGKILL and started again", self._restart)
        self._tell("weight", f"{REWEIGHTED} gets weight {HEAVY} by REST", self._weigh)

    def demo_run(self) -> DemoRun:
        facts = self._facts
        return DemoRun(
            scheduler=self._options.scheduler,
            rate=self._clients.rate,
            client_timeout=self._clients.timeout,
            began=self._began,
            ended=self._mark,
            steps=tuple(self._steps),
            added=facts.added,
            drained=facts.drained,
            killed=facts.killed,
            returned=facts.returned,
            restarted=facts.restarted,
            reweighted=facts.reweighted,
            trouble=tuple(facts.trouble),
        )

    def _tell(self, name: str, title: str, act: Callable[[], None]) -> None:
        self._say(f"{self._mark - self._began:5.1f} s  {name}: {title}")
        began = self._settled = self._mark
        try:
            act()
        except (DirectorError, OSError) as error:
            self._facts.trouble.append(Trouble(name, str(error), isinstance(error, TimedOutError)))
            self._say(f"         {name} went wrong: {error}")
        if not self._clients.running:
            raise DirectorError("the clients ended in the middle of the demo")
        self._mark = time.monotonic()
        step = Step(name, title, began, self._settled, self._mark, dict(self._weights))
        self._steps.append(step)
        self._say(f"         {_step_summary(step, self._clients)}")

    def _watch(self, seconds: float | None = None) -> None:
        """Let the clients go on."""
        time.sleep(self._pace.watch if seconds is None else seconds)

    def _watch_shares(self, are_right: Callable[[Step, list[Request]], bool]) -> None:
        """Watch, and again while the shares are not yet what they should be; the last watch is what is judged.

        A scheduler that counts connections evens out loads, not the requests of any two seconds: a backend that
        lost a kept connection or two gets all new ones until it has caught up.
        """
        for _ in range(ROUNDS):
            self._settled = time.monotonic()
            self._watch()
            step = Step("", "", self._settled, self._settled, time.monotonic(), dict(self._weights))
            if are_right(step, self._clients.requests()):
                return

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """What does not happen in time is a fact for the judge, not the end of the step."""
        try:
            yield
        except TimedOutError as error:
            self._say(f"         {what}: {error}")

    def _backend(self, name: str) -> str:
        return backend_path(SERVICE, name)

    def _is_up(self, name: str, verdict: str) -> bool:
        return bool(self._api.get(self._backend(name))["operational"] == verdict)

    def _baseline(self) -> None:
        self._watch(self._pace.watch / 4)  # until the kept clients have found their places
        self._watch_shares(lambda step, requests: expectations.share_out(step, requests)[1])

    def _add(self) -> None:
        node = self._lab.topology.node(ADDED)
        body = {"name": ADDED, "address": str(node.ipv4), "weight": 1}
        self._api.post(f"{service_path(SERVICE)}/backends", body)
        self._weights[ADDED] = 1
        self._settled = time.monotonic()
        self._facts.added = Joined(ADDED, self._settled)
        self._watch()

    def _drain(self) -> None:
        self._api.post(f"{self._backend(DRAINED)}/drain", {"reason": "the demo"})
        answered = self._settled = time.monotonic()
        del self._weights[DRAINED]
        self._facts.drained = Drained(DRAINED, answered, None, None)
        limit = self._pace.drain
        with self._noting(f"{DRAINED} is not drained"):
            wait = {"wait": "drained", "timeout": f"{limit:g}s"}
            self._api.get(self._backend(DRAINED), wait, timeout=limit + 5)
            self._facts.drained = Drained(DRAINED, answered, time.monotonic(), None)
        self._watch(max(0.0, self._pace.watch - (time.monotonic() - answered)))

    def _remove(self) -> None:
        self._api.delete(self._backend(DRAINED))
        if facts := self._facts.drained:
            self._facts.drained = Drained(DRAINED, facts.at, facts.empty, time.monotonic())
        self._watch(self._pace.watch / 2)

    def _kill(self) -> None:
        host, server = self._lab.host(KILLED), self._lab.nginx(KILLED)
        at, check = time.monotonic(), self._pace.check
        host.link_down()  # first, so that no dying word of the server reaches a client
        server.kill()
        self._facts.killed = Killed(KILLED, at, check.window, ALLOWANCE, None)
        del self._weights[KILLED]
        with self._noting(f"{KILLED} is not called down"):
            wait_until(lambda: self._is_up(KILLED, "down"), f"{KILLED} is down", check.window + 5.0)
            self._facts.killed = Killed(KILLED, at, check.window, ALLOWANCE, time.monotonic())
        self._settled = time.monotonic()
        self._watch()

    def _return(self) -> None:
        self._lab.host(KILLED).link_up()
        self._lab.nginx(KILLED)
        self._facts.returned = Joined(KILLED, time.monotonic())
        with self._noting(f"{KILLED} is not called up"):
            wait_until(lambda: self._is_up(KILLED, "up"), f"{KILLED} is up", self._pace.recovery)
        self._weights[KILLED] = 1
        self._settled = time.monotonic()
        self._watch()

    def _restart(self) -> None:
        host = self._lab.director_host
        before = host.xdp_program()
        self._director.kill()
        at = time.monotonic()
        self._watch(self._pace.without_daemon)
        between = host.xdp_program()
        self._director.start()
        self._facts.restarted = Restarted(at, time.monotonic(), before, between, host.xdp_program())
        self._watch()

    def _weigh(self) -> None:
        before = self._weights[REWEIGHTED]
        self._api.patch(self._backend(REWEIGHTED), {"weight": HEAVY})
        self._weights[REWEIGHTED] = HEAVY
        self._facts.reweighted = Reweighted(REWEIGHTED, time.monotonic(), before, HEAVY)
        self._watch_shares(lambda step, requests: expectations.follows_weight(REWEIGHTED, step, requests)[1])


def _step_summary(step: Step, clients: Clients) -> str:
    """One line of what the clients have seen of a step by now."""
    requests = expectations.within(clients.requests(), step.began, step.ended)
    served = ", ".join(f"{name} {count}" for name, count in sorted(expectations.served(requests).items()))
    return f"{len(requests)} requests ({served}), {sum(request.failed for request in requests)} failed"
