# SPDX-License-Identifier: Apache-2.0
"""`./lab package`: builds the packages and lets lintian judge them; with `--try` a machine lives with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from dev.package.build import OUTPUT, build, check
from dev.package.lifecycle import Trial, successor
from dev.package.recipe import CARDS, machine
from dev.package.repository import publish
from dev.vm.build_dir import workshop
from dev.vm.guest import Guest
from dev.vm.image import Image
from dev.vm.qemu import Shape
from dev.vm.session import Course

Say = Callable[[str], None]
NEXT = "99.0.0"
MEGABYTES = 2048


def package(
    checkout: Path, say: Say, *, trial: bool = False, repository: Path | None = None, key: str = ""
) -> None:
    """LabError when a step fails, or the machine is not as it should be. `repository`: an APT repository in which
    they are published, signed with `key`."""
    built = build(checkout, say)
    say("asking lintian")
    check(checkout, built)
    packages = [path for path in built if path.suffix == ".deb"]
    for path in packages:
        say(f"{OUTPUT}/{path.name}: {path.stat().st_size / 1e6:.1f} MB")
    if repository:
        publish(packages, repository, key)
        say(f"published in {repository}")
    if trial:
        say(str(try_out(checkout, packages, say)))


def try_out(checkout: Path, packages: Sequence[Path], say: Say) -> Course:
    """How long each step took."""
    home = checkout / ".lab" / "package"
    course, image, wanted = Course(), Image(home), machine()
    if not image.is_made_by(wanted):
        with course.step("building the disk image", say):
            image.make(wanted, say)
    macs = [CARDS.director.mac(), CARDS.client.mac(), *(node.mac() for node in CARDS.backend_nodes)]
    with ExitStack() as stack:
        work = stack.enter_context(workshop(home))
        director = next(path for path in packages if path.name.startswith("xdpdirector_"))
        later = successor(director, work, NEXT)
        with course.step("booting", say):
            shape = Shape(macs, MEGABYTES, reboots=True)
            guest = stack.enter_context(Guest(image, home / "console.log", shape))
        for path in (*packages, later):
            guest.run("sh", "-c", f"cat >/root/{path.name}", data=path.read_bytes())
        _live(Trial(guest, say), [path.name for path in packages], later.name, course, say)
    return course


def _live(trial: Trial, packages: Sequence[str], later: str, course: Course, say: Say) -> None:
    steps: dict[str, Callable[[], None]] = {
        "installing": lambda: trial.install(" ".join(f"/root/{name}" for name in packages)),
        "making it a backend": trial.become_backend,
        "configuring and starting": trial.start,
        "checking by a program": trial.check_by_program,
        "judging the daemon's unit": trial.judge,
        "reloading": trial.reload,
        "hanging": trial.hang,
        "upgrading under traffic": lambda: trial.upgrade(f"/root/{later}"),
        "rebooting": trial.reboot,
        "purging": trial.purge,
    }
    for title, step in steps.items():
        with course.step(title, say):
            step()
