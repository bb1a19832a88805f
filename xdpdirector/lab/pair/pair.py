# SPDX-License-Identifier: Apache-2.0
"""The demo of a pair: its steps in order, and what the clients saw of each.

Two directors with keepalived; real nginx; new connections at a steady rate, and long downloads that must never
break.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from xdpdirector.errors import DirectorError
from xdpdirector.ha.keepalived import PRIORITIES, Vrrp, render
from xdpdirector.lab import dashboard
from xdpdirector.lab.clients import Clients
from xdpdirector.lab.configuration import TARGETS, HealthCheck, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.pair.keepalived import Keepalived
from xdpdirector.lab.pair.report import Judged, Stall, judged
from xdpdirector.lab.pair.story import Refused, Story, refused_of
from xdpdirector.lab.processes import Process, stop
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

PORT = 8651
LONGEST = 3600.0
BIG = 48  # MiB of each download
OTHER_SIZES = {
    "connections": 1 << 17,
    "connections6": 1 << 15,
}  # than by default: other maps, as a release may have
Say = Callable[[str], None]


@dataclass(frozen=True)
class PairOptions:
    """`cycles`: how often the steps run; none begins after so many `minutes`. `upgrades`: also restarts and
    upgrades. `watch`: seconds that each step is watched; `advert`: seconds between two VRRP advertisements."""

    name: str = "pair"
    numbered: bool = False
    scheduler: str = "wlc"
    rate: float = 200.0
    downloads: int = 300
    cycles: int = 1
    minutes: float = 50.0
    upgrades: bool = True
    watch: float = 6.0
    advert: float = 0.1


def run_pair(options: PairOptions, say: Say) -> Judged:
    """Build the lab, run the steps, take the lab down."""
    say("building the lab: client, two directors, 3 backends and a switch, each a network namespace")
    with Lab(options.name, backends=3, directors=2, numbered=options.numbered) as lab:
        for host in lab.backends:
            lab.nginx(host.name, big_megabytes=BIG)
        pair = Pair(lab, options, say)
        try:
            return pair.run()
        finally:
            pair.close()


class Pair:
    """One telling."""

    def __init__(self, lab: Lab, options: PairOptions, say: Say) -> None:
        self._lab, self._options, self._say = lab, options, say
        self._directors: list[LabDirector] = []
        self._keepalived = [Keepalived(host) for host in lab.director_hosts]
        self._downloads: subprocess.Popen[str] | None = None
        self._output = lab.client.directory("downloads") / "downloads.jsonl"
        self._story = Story(self, say, options.watch)
        self.died: float | None = None
        self._has_other_sizes = False

    def run(self) -> Judged:
        self._say("starting the directors (they compile their program), and keepalived on each")
        for number in (1, 2):
            self._directors.append(self._lab.director(self._configuration(number), number=number))
        for director in self._directors:
            director.wait_serving()
        self._wait_synced()
        for keepalived, number in zip(self._keepalived, (1, 2), strict=True):
            keepalived.start(self._vrrp(number))
        self._wait_active(0)
        self._say(
            f"clients begin: {self._options.rate:g} new connections a second, "
            f"{self._options.downloads} downloads"
        )
        first, second = self._directors
        with (
            dashboard.shown(first, self._say),
            dashboard.shown(second, self._say),
            Clients(
                self._lab.client, list(TARGETS), rate=self._options.rate, kept=12, longest=LONGEST
            ) as clients,
        ):
            self._begin_downloads()
            self._story.baseline()
            self._cycles()
            requests = clients.requests()
        return judged(self._story.seen, requests, self._lines(), self._options.rate)

    def close(self) -> None:
        """What the lab does not end by itself: programs that outlive their daemons."""
        if self._downloads:
            stop(Process.of(self._downloads.pid), grace=5.0)
        for keepalived in self._keepalived:
            keepalived.stop()
        for director in self._directors:
            director.stop()

    def _cycles(self) -> None:
        end = time.monotonic() + 60 * self._options.minutes
        for number in range(self._options.cycles):
            if time.monotonic() >= end:
                self._say(f"{self._options.minutes:g} minutes are over after {number} cycles")
                break
            self._story.cycle(upgrades=self._options.upgrades)

    def kill(self) -> None:
        host = self._lab.director_hosts[0]
        host.link_down()
        self.died = self.now()
        self._keepalived[0].kill()
        self._directors[0].kill()
        self._wait_active(1)

    def come_back(self) -> None:
        host, director = self._lab.director_hosts[0], self._directors[0]
        for vip, length in ((VIP4, 32), (VIP6, 128)):
            host.run("ip", "address", "delete", f"{vip}/{length}", "dev", "eth0", check=False)
        self._run(1, "unload")
        host.link_up()
        director.start()
        self._keepalived[0].start(self._vrrp(1))
        self._wait_active(0)

    def hand_over(self) -> None:
        self._keepalived[0].stop()
        self._wait_active(1)

    def hand_back(self) -> None:
        self._keepalived[0].start(self._vrrp(1))
        self._wait_active(0)

    def restart(self) -> None:
        self._directors[0].stop()
        self._directors[0].start()
        self._wait_active(0)

    def upgrade(self) -> None:
        """The standby first, then the active one, each as the Debian package does it: the new program is compiled
        while the daemon runs, and the daemon's restart carries all connections into its maps."""
        self._has_other_sizes = not self._has_other_sizes
        for number in (2, 1):
            director = self._directors[number - 1]
            director.configure(self._configuration(number))
            self._run(number, "load", "--prepare", "--config", str(director.configuration))
            director.stop()
            director.start()
            self._wait_active(0)
            self._wait_synced()

    def _run(self, number: int, *command: str) -> None:
        """The command line on a director's host."""
        director, host = self._directors[number - 1], self._lab.director_hosts[number - 1]
        line = [sys.executable, "-m", "xdpdirector", "--instance", director.paths.name, *command]
        host.run(*line, timeout=120.0)

    def _wait_synced(self) -> None:
        for director in self._directors:
            wait_until(partial(_is_synced, director), "the directors are synced", 60.0)

    def now(self) -> float:
        return time.monotonic()

    def stood_still(self) -> float:
        """The hosts are one machine; the clients' schedule says whether it had time."""
        return 0.0

    def refused(self) -> Refused:
        found = {}
        for host, director in zip(self._lab.director_hosts, self._directors, strict=True):
            with suppress(DirectorError):
                found[host.name] = refused_of(director.client.get("/v1/stats")["verdicts"])
        return found

    def lag(self) -> float:
        try:
            return max(_lags(self._directors[0]), default=0.0)
        except DirectorError:
            return 0.0

    def _wait_active(self, number: int) -> None:
        """Until the VIPs stand on this director, and on no other."""
        hosts = self._lab.director_hosts
        running = [hosts[number], *(each for each in hosts if each is not hosts[number] and _has_link(each))]
        wait_until(
            lambda: [_has_vip(each) for each in running] == [True] + [False] * (len(running) - 1),
            f"{hosts[number].name} alone has the VIPs",
            60.0,
            interval=0.05,
        )

    def _configuration(self, number: int) -> dict[str, Any]:
        nodes = self._lab.topology.director_nodes
        mine, other = nodes[number - 1], nodes[2 - number]
        plain = web_configuration(
            self._lab.topology.backend_nodes,
            scheduler=self._options.scheduler,
            check=HealthCheck(interval=1.0, timeout=0.9),
        )
        sync = {
            "name": mine.name,
            "listen": f"{mine.ipv4}:{PORT}",
            "peers": [f"{other.ipv4}:{PORT}"],
            "insecure": True,
        }
        sizes = {"sizes": OTHER_SIZES} if self._has_other_sizes else {}
        return plain | {"vips": "external", "sync": sync} | sizes

    def _vrrp(self, number: int) -> str:
        nodes = self._lab.topology.director_nodes
        mine, other = nodes[number - 1], nodes[2 - number]
        instance = self._lab.topology.instances[number - 1].name
        return render(
            Vrrp(
                vips=(VIP4, VIP6),
                interface="eth0",
                ready=f"{sys.executable} -m xdpdirector -i {instance} status --ready",
                own=(mine.ipv4, mine.ipv6),
                peers=(other.ipv4, other.ipv6),
                priority=PRIORITIES[number - 1],
                advert=self._options.advert,
            )
        )

    def _begin_downloads(self) -> None:
        """Linux answers one probe of a closed window in 500 ms (tcp_oow_rate_limited()). Where a director dies
        after a server's first probe, which comes after 248 ms, the client would be silent at the second, 496 ms
        later, and the third comes after 992 ms more."""
        self._lab.client.run("sysctl", "-qw", "net.ipv4.tcp_invalid_ratelimit=0")
        command = [sys.executable, "-m", "xdpdirector.lab.pair.downloads", *TARGETS]
        with self._output.open("w") as output:
            self._downloads = self._lab.client.popen(
                *command, "--count", str(self._options.downloads), role="downloads", stdout=output
            )
        wait_until(
            lambda: sum(line["what"] == "opened" for line in self._lines()) >= self._options.downloads,
            "all downloads run",
            60.0,
        )

    def _lines(self) -> list[Stall]:
        text = self._output.read_text()
        whole = text[: text.rfind("\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]


def _is_synced(director: LabDirector) -> bool:
    peers = director.client.get("/v1/fleet")["peers"]
    return all(peer[way]["state"] == "synced" for peer in peers for way in ("incoming", "outgoing"))


def _lags(director: LabDirector) -> list[float]:
    peers = director.client.get("/v1/fleet")["peers"]
    return [peer["outgoing"]["lag"] for peer in peers if peer["outgoing"]["lag"] is not None]


def _has_link(host: Any) -> bool:
    return "state UP" in host.run("ip", "link", "show", "dev", "eth0").stdout


def _has_vip(host: Any) -> bool:
    shown = host.run("ip", "-o", "address", "show", "dev", "eth0").stdout
    return f"{VIP4}/" in shown and f"{VIP6}/" in shown
