# SPDX-License-Identifier: Apache-2.0
"""A chaos run's lab while it stands: its director, its servers, and a disk of the director's own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dev.chaos.setting import (
    BACKENDS,
    SERVICES,
    SOURCES,
    Options,
    configuration,
)
from xdpdirector.errors import DirectorError
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import Host, run
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.servers import Server
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.loader import compile_cache
from xdpdirector.paths import InstancePaths
from xdpdirector.system.privileges import Account

USERS = ("games", "nobody")
"""Whom the daemon becomes, where it can: on every Debian, and otherwise idle."""
ROOM = "64m"
FIRST_CLIENT_PORT = 32768
_QUICK = "net.ipv4.tcp_rto_max_ms=2000"  # Linux 6.15: what was lost is sent again soon after a disturbance


class ChaosDirector(LabDirector):
    """The daemon with the disturbances of `inside`."""

    def __init__(self, host: Host, paths: InstancePaths) -> None:
        super().__init__(host, paths)
        self.inside = host.directory("inside")
        (self.inside / "clock").write_text("0")
        os.mkfifo(self.inside / "orders")
        (self.inside / "failed").touch()
        for name in ("orders", "failed"):
            (self.inside / name).chmod(0o666)  # for whom the daemon becomes

    @property
    def command(self) -> list[str]:
        program = [sys.executable, "-m", "dev.chaos.daemon_under_test", str(self.inside)]
        return [*program, "--instance", self.paths.name, "run", "--config", str(self.configuration)]

    def order(self, *words: str) -> None:
        """To `inside`; lost when no daemon runs."""
        descriptor = os.open(self.inside / "orders", os.O_RDWR)  # does not wait for a reader
        try:
            os.write(descriptor, " ".join(words).encode() + b"\n")
        finally:
            os.close(descriptor)

    def fail_task(self, number: int) -> str:
        """One of the daemon's tasks fails; its name. LabError when none can be made to."""
        failed = self.inside / "failed"
        before = failed.read_text()
        self.order("task", str(number))
        said = wait_until(lambda: failed.read_text()[len(before) :], "a task fails", 10.0)
        if not said.strip():
            raise LabError("no task of the daemon waits for anything")
        return said.strip()

    def set_clock(self, seconds: int) -> None:
        """By so many from the true time, over restarts, too."""
        (self.inside / "clock").write_text(str(seconds))
        self.order("clock", str(seconds))


class EchoServers(Server):
    """All services of one backend."""

    role = "chaos-echo"

    def command(self) -> list[str]:
        self._bound.unlink(missing_ok=True)
        program = [sys.executable, "-m", "dev.chaos.echo", self.host.name, str(self._bound)]
        return [*program, *(str(each.port) for each in SERVICES)]

    def ready(self) -> bool:
        return self._bound.exists()

    @property
    def _bound(self) -> Path:
        return self.host.directory(self.role) / "bound"


@dataclass(frozen=True)
class World:
    options: Options
    lab: Lab
    director: ChaosDirector
    user: str | None
    """Whom the daemon became; None for root."""
    state: Path
    """Where its disk is mounted."""


@contextmanager
def standing(options: Options) -> Iterator[World]:
    """Everything serves inside the block; afterwards nothing is left."""
    with ExitStack() as stack:
        # Its end takes the disk away, also when a run was killed and the next one of this name begins.
        lab = stack.enter_context(Lab(options.name, backends=BACKENDS, numbered=options.numbered))
        state = lab.topology.instance.state.parent
        state.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(state))
        for host in (lab.client, *lab.backends):
            host.run("sysctl", "-qw", _QUICK, check=False)
        for host in lab.backends:
            EchoServers(host).start()
        _make_clients(lab.client, options.size.ports)
        stack.enter_context(_compiling_once(lab.record.directory / "compiled"))
        user = next(filter(_can_run, USERS), None)
        director = ChaosDirector(lab.director_host, lab.topology.instance)
        director.configure(configuration(lab.topology, user))
        director.start()
        stack.callback(director.stop)
        director.wait_serving()
        yield World(options, lab, director, user, state)


@contextmanager
def _compiling_once(directory: Path) -> Iterator[None]:
    """Upgrades go to and fro between two releases: each is compiled the first time only."""
    directory.mkdir()
    before = os.environ.get(compile_cache.VARIABLE)
    os.environ.setdefault(compile_cache.VARIABLE, str(directory))
    try:
        yield
    finally:
        if before is None:
            del os.environ[compile_cache.VARIABLE]


def _can_run(user: str) -> bool:
    """Whether that user may read what is run here: a checkout in somebody's home is often closed."""
    try:
        Account.of(user)
    except DirectorError:
        return False
    readable = run(
        *(
            "setpriv",
            f"--reuid={user}",
            "--clear-groups",
            "--",
            sys.executable,
            "-c",
            "import dev.chaos",
        ),
        check=False,
    )
    return readable.returncode == 0


def _make_clients(client: Host, ports: int) -> None:
    """Addresses for the new connections, and so many ports."""
    last = FIRST_CLIENT_PORT + ports - 1
    client.run("sysctl", "-qw", f"net.ipv4.ip_local_port_range={FIRST_CLIENT_PORT} {last}")
    addresses = sources(client)
    lines = [f"addr add {address}/24 dev eth0" for address in addresses["4"]]
    lines += [f"addr add {address}/64 dev eth0 nodad" for address in addresses["6"]]
    client.run("ip", "-batch", "-", text="\n".join(lines) + "\n")


def sources(client: Host) -> dict[str, list[str]]:
    """By family, those that new connections come from."""
    numbers = range(1, SOURCES + 1)
    return {
        "4": [str(client.node.ipv4 + number) for number in numbers],
        "6": [str(client.node.ipv6 + number) for number in numbers],
    }


def write_plan(world: World, path: Path) -> None:
    """For `clients`."""
    document = {
        "seed": world.options.seed,
        "services": [(each.name, str(VIP4), str(VIP6), each.port) for each in SERVICES],
        "running": world.options.size.running,
        "rate": world.options.size.rate,
        "sources": sources(world.lab.client),
    }
    path.write_text(json.dumps(document))
