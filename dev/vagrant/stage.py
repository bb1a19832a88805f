# SPDX-License-Identifier: Apache-2.0
"""The machines by their names, what the acts need of them, and the client's look at the VIPs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dev.vagrant.account import Account
from dev.vagrant.machines import Machines
from dev.vagrant.poller import NOBODY, Visitor, asking, counts
from dev.vagrant.service import Service
from xdpdirector.errors import DirectorError
from xdpdirector.lab.errors import LabError

VIP4, VIP6 = "192.0.2.10", "[2001:db8::10]"
BACKENDS = {"backend1": "192.0.2.21", "backend2": "192.0.2.22", "backend3": "192.0.2.23"}
CLIENT, DIRECTOR, SECOND = "client", "director", "director2"
REQUESTS = 30
NOTICING, RETURNING = 120.0, 900.0  # seconds that a check, resp. a boot, may take in emulation
DRAINING = 60


@dataclass
class Stage:
    """The machines, as many as the Vagrantfile was told, the directory of the packages that they install, and the
    account of what they do."""

    machines: Machines
    account: Account
    packages: Path
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

    def keep_journals(self, directory: Path) -> None:
        """What all machines that answer have logged: a file for each."""
        directory.mkdir(exist_ok=True)
        for name in self.names:
            try:
                text = self.machines.run(name, "journalctl --no-pager --output=short-precise", RETURNING)
            except DirectorError as error:
                self.account.say(f"  the journal of {name} could not be read: {error}")
            else:
                (directory / f"{name}.log").write_text(text)
        self.account.say(f"  the journals are in {directory}")

    def has_vip(self, name: str) -> bool:
        return VIP4 in self.machines.run(name, "ip -o -4 address show").replace("/", " ").split()
