# SPDX-License-Identifier: Apache-2.0
"""What the machines are put through, from their first boot to their end; reads top to bottom.

Each act says what it saw; one that sees something else raises LabError, and the rest is not played.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dev.vagrant.pair import tell
from dev.vagrant.poller import NOBODY, Visitor, counts, gap
from dev.vagrant.service import Service
from dev.vagrant.stage import (
    DIRECTOR,
    DRAINING,
    NOTICING,
    REQUESTS,
    RETURNING,
    VIP4,
    VIP6,
    Stage,
)
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until


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
PAIR_ACTS = (
    *_FIRST,
    ("the pair under clients: one is killed, comes back, hands over, both are upgraded", tell),
)
