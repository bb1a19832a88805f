# SPDX-License-Identifier: Apache-2.0
"""`./lab vagrant`: the box and the packages are made outside, all else in namespaces that end with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.package.build import OUTPUT, build
from dev.vagrant import box_packages, libvirt_sandbox
from dev.vagrant.account import Account
from dev.vagrant.box import NAME, Box
from dev.vagrant.machines import Machines
from dev.vagrant.scenario import play
from dev.vagrant.stage import Stage
from xdpdirector.errors import DirectorError
from xdpdirector.lab.host import run


@dataclass(frozen=True)
class Options:
    checkout: Path
    backends: int = 3
    pair: bool = False

    @property
    def home(self) -> Path:
        return self.checkout / ".lab" / "vagrant"

    @property
    def packages(self) -> Path:
        return self.checkout / OUTPUT


def outside(options: Options, say: Callable[[str], None]) -> int:
    """The exit status of all of it."""
    box, account = Box(options.home), Account(say)
    with account.step("build the packages"):
        built = [path for path in build(options.checkout, say) if path.suffix == ".deb"]
    recipe = box_packages.ingredients(depended(built))
    if not box.is_made_by(recipe):
        with account.step("build the box"):
            box.make(recipe, say)
    inner = [sys.executable, "-m", "dev.vagrant", str(options.checkout)]
    inner += [
        str(options.backends),
        str(int(options.pair)),
        json.dumps({step.title: step.seconds for step in account.steps}),
    ]
    with libvirt_sandbox.mount_points():
        return subprocess.run(libvirt_sandbox.enter(inner), check=False).returncode


def depended(packages: Sequence[Path]) -> set[str]:
    """What these packages depend on, besides each other."""
    found: set[str] = set()
    for path in packages:
        found.update(box_packages.names(run("dpkg-deb", "--field", str(path), "Depends").stdout))
    return found - {path.name.split("_")[0] for path in packages}


def inside(options: Options, account: Account) -> None:
    """From libvirt's start to its end. Says the times; LabError when something disappoints."""
    state = options.home / "state"
    with libvirt_sandbox.furnish(state):
        machines = Machines(options.checkout / "vagrant", state, variables(options), account.say)
        with account.step("add the box"):
            machines.vagrant("box", "add", "--name", NAME, str(Box(options.home).file))
        stage = Stage(machines, account, options.packages, options.backends, options.pair)
        try:
            play(stage)
        except DirectorError:
            stage.keep_journals(options.home / "journals")
            raise
        finally:
            with account.step("destroy the machines"):
                machines.vagrant("destroy", "--force")
            account.say(f"\n{account}")


def variables(options: Options) -> dict[str, str]:
    """The Vagrantfile's."""
    consoles = options.home / "consoles"
    consoles.mkdir(exist_ok=True)
    return {
        "LAB_BOX": NAME,
        "LAB_EMULATE": "1",
        "LAB_BACKENDS": str(options.backends),
        "LAB_DIRECTORS": "2" if options.pair else "1",
        "LAB_PACKAGES": str(options.packages),
        "LAB_CONSOLES": str(consoles),
    }
