# SPDX-License-Identifier: Apache-2.0
"""What the machines are put through, from their first boot to their end; reads top to bottom.

Each act says what it saw; one that sees something else raises LabError, and the rest is not played.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dev.vagrant.account import Account
from dev.vagrant.machines import Machines
from dev.vagrant.poller import (
    NOBODY,
    Visitor,
    asking,
    counts,
    gap,
)
from dev.vagrant.service import Service
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until

VIP4, VIP6 = "192.0.2.10", "[2001:db8::10]"
BACKENDS = {"backend1": "192.0.2.21", "backend2": "192.0.2.22", "backend3": "192.0.2.23"}
CLIENT, DIRECTOR, SECOND = "client", "director", "director2"
REQUESTS = 30
NOTICING, RETURNING = 120.0, 900.0  # seconds that a check, resp. a boot, may take in emulation
DRAINING = 60


@dataclass
class Stage:
    """The machines, as many as the Vagrantfile was told, and the account of what they do."""

    machines: Machines
    account: Account
    backends: int = 3
    pair: bool = False

    @property
    def named(self) -> dict[str, str]:
        return dict(list(BACKENDS.items())[: self.backends])

    @property
    def names(self) -> list[str]:
        return [*self.named, DIRECTOR, *([SECOND] if self.pair else []), CLIENT]

    @property
    def service(self) -> Service:
        return Service(self.machines, DIRECTOR)

    def visitor(self) -> Visitor:
        return Visitor(self.machines.command(CLIENT, asking(VIP4)))

    def ask(self, vip: str, allowed: Iterable[str], wanted: Iterable[str] = ()) -> None:
        """Many requests: only those that are allowed answer, and each that is wanted. That need not be all, because
        `wlc` sends to who has returned with no connections first. LabError says who it was."""
        script = (
            f"for i in $(seq {REQUESTS}); do curl -sf -g --max-time 10 http://{vip}/ || echo {NOBODY}; done"
        )
        heard = self.machines.run(CLIENT, script, timeout=RETURNING).split()
        self.account.see(f"{REQUESTS} requests to {vip}: {counts(heard)}")
        if not set(wanted) <= set(heard) <= set(allowed):
            raise LabError(
                f"answers may come of {', '.join(allowed)}, must of {', '.join(wanted)}, and came: {counts(heard)}"
            )


def play(stage: Stage) -> None:
    """The acts for one director or for two; the machines are there afterwards."""
    for title, act in PAIR_ACTS if stage.pair else ACTS:
        with stage.account.step(title):
            act(stage)


def bring_up(stage: Stage) -> None:
    stage.machines.up(*stage.names)


def ask_all(stage: Stage) -> None:
    for vip in (VIP4, VIP6):
        stage.ask(vip, stage.named, stage.named)
    shown = stage.service.request("GET", "/v1/dataplane")
    modes = {each["mode"] for each in shown["carriers"]}
    kernel = stage.machines.run(DIRECTOR, "uname -r").strip()
    stage.account.see(f"the director forwards in {', '.join(modes)} mode, on Linux {kernel}")
    if modes != {"native"}:
        raise LabError(f"native mode was wanted of virtio_net, and it is {modes}")


def change(stage: Stage) -> None:
    service, name, others = stage.service, list(stage.named)[-1], list(stage.named)[:-1]
    service.drain(name, DRAINING)
    service.wait_drained(name, DRAINING)
    stage.ask(VIP4, others)
    service.delete(name)
    stage.account.see(f"{name} is gone: {', '.join(service.backends())} are left")
    service.add(name, stage.named[name], weight=2)
    service.wait_for(name, "up", NOTICING)
    stage.ask(VIP4, stage.named, [name])
    service.maintenance(name)
    stage.ask(VIP4, others)
    service.enable(name)
    service.wait_for(name, "up", NOTICING)


def cut_power(stage: Stage) -> None:
    service, name, others = stage.service, next(iter(stage.named)), list(stage.named)[1:]
    with stage.visitor() as visitor:
        began = time.monotonic()
        stage.machines.vagrant("halt", "--force", name)
        found = service.wait_for(name, "down", NOTICING)
        noticed = time.monotonic()
        stage.account.see(f"{name} is down after {noticed - began:.0f} s: {found['reason']}")
        wait_until(lambda: len(visitor.since(noticed)) >= REQUESTS, "the client asked on", NOTICING)
        failed = sum(answer.by == NOBODY for answer in visitor.since(noticed + 5))
        heard = counts(answer.by for answer in visitor.since(began))
    stage.account.see(f"the client, from the cut on: {heard}; failed after it was noticed: {failed}")
    if failed:
        raise LabError("requests failed although the dead backend had been noticed")
    stage.ask(VIP4, others)
    stage.machines.vagrant("up", name)
    service.wait_for(name, "up", RETURNING)
    stage.account.see(f"{name} is back, with its VIPs, and nobody provisioned it again")
    stage.ask(VIP4, stage.named, [name])


def reboot(stage: Stage) -> None:
    service = stage.service
    before = weights(service)
    with stage.visitor() as visitor:
        began = time.monotonic()
        stage.machines.run(DIRECTOR, "systemd-run --quiet --on-active=1 systemctl reboot")
        wait_until(lambda: failing(visitor, began), "the director is away", NOTICING, interval=0.5)
        wait_until(lambda: serving(visitor, began), "forwarding comes back", RETURNING, interval=0.5)
        away = gap(visitor.since(began))
    stage.account.see(f"away for {away:.0f} s, all of its boot included")
    after = weights(service)
    if after != before:
        raise LabError(f"the director forgot what was changed: it had {before}, and has {after}")
    stage.account.see(
        f"it remembers the weights: {', '.join(f'{name} {each}' for name, each in after.items())}"
    )
    for vip in (VIP4, VIP6):
        stage.ask(vip, stage.named, stage.named)


def failing(visitor: Visitor, since: float) -> bool:
    return any(answer.by == NOBODY for answer in visitor.since(since))


def serving(visitor: Visitor, since: float) -> bool:
    """The last ten requests were answered."""
    last_ten = visitor.since(since)[-10:]
    return len(last_ten) == 10 and all(answer.by != NOBODY for answer in last_ten)


def weights(service: Service) -> dict[str, int]:
    return {name: each["weight"] for name, each in service.backends().items()}


def take_over(stage: Stage) -> None:
    """Of a pair: the other director has its connections."""
    holder = next(name for name in (DIRECTOR, SECOND) if has_vip(stage, name))
    with stage.visitor() as visitor:
        began = time.monotonic()
        stage.machines.vagrant("halt", "--force", holder)
        other = SECOND if holder == DIRECTOR else DIRECTOR
        wait_until(lambda: has_vip(stage, other), f"{other} has the VIPs", NOTICING, interval=1)
        wait_until(lambda: serving(visitor, began), "somebody answers", NOTICING, interval=0.5)
        stage.account.see(f"{other} took over; requests failed for {gap(visitor.since(began)):.1f} s")
    for vip in (VIP4, VIP6):
        stage.ask(vip, stage.named, stage.named)


def has_vip(stage: Stage, name: str) -> bool:
    return VIP4 in stage.machines.run(name, "ip -o -4 address show").replace("/", " ").split()


Act = Callable[[Stage], None]
_FIRST: tuple[tuple[str, Act], ...] = (
    ("vagrant up: boot, install, check themselves", bring_up),
    ("the client asks through the VIPs", ask_all),
)
ACTS = (
    *_FIRST,
    ("drain a backend, take it out, add it again", change),
    ("cut a backend's power, and bring it back", cut_power),
    ("reboot the director", reboot),
)
PAIR_ACTS = (*_FIRST, ("cut the power of the director that has the VIPs", take_over))
