# SPDX-License-Identifier: Apache-2.0
"""One session: an image, a guest, the project installed in it, its tests run there. Reads top to bottom."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dev.vm.architecture import AMD64
from dev.vm.build_dir import workshop
from dev.vm.guest import Guest
from dev.vm.image import Image
from dev.vm.payload import parcel
from dev.vm.qemu import Shape
from dev.vm.recipe import SUITE, Recipe, recipe
from dev.vm.rootfs import ENVIRONMENT
from xdpdirector.lab.topology import Topology

CARDS = Topology("cards", backends=2)  # the hosts that have a network card each, instead of a veth
PLACE = "/root/xdpdirector"
PYTHON = f"{ENVIRONMENT}/bin/python"
INSTALLING, TESTING, CHOSEN = 1800.0, 2400.0, 4 * 3600.0  # seconds; the last for other tests and machines
_SHELL = f"cd {PLACE}; PATH={ENVIRONMENT}/bin:$PATH exec bash"

# What depends on the kernel, within minutes of emulation. The long flood and the long walks over rings do not.
TESTS = (
    "-pno:randomly",  # the order below: whether the program loads at all is said first
    "--durations=10",
    "--maxfail=10",  # for a program that does not load, say
    "tests/vm/test_program.py",
    "tests/vm",
    *(f"tests/packets/test_{name}.py" for name in ("rows", "connections", "schedulers", "related", "ring")),
    "tests/packets/test_reference.py",
    "--deselect=tests/packets/test_connections.py::test_a_flood_of_syns_evicts_no_running_connection",
    "--deselect=tests/packets/test_ring.py::test_no_flow_of_a_living_backend_moves_whatever_happens",
    "--deselect=tests/packets/test_ring.py::test_no_flow_moves_when_the_ring_changes",
    # The model has no clock, and emulated conversations last so long that some of their flows time out.
    "--deselect=tests/packets/test_reference.py::test_the_program_does_what_the_model_says[100000-conversations]",
    "--deselect=tests/vm/test_ipvsadm.py",  # ten minutes; `./lab vm tests/vm/test_ipvsadm.py` runs it
    "--deselect=tests/vm/test_lvs_move.py",  # the same; `./lab move-from-lvs` runs it
)
MOVE = ("-rP", "tests/vm/test_lvs_move.py")


@dataclass(frozen=True)
class Options:
    """`tests` are pytest's arguments.

    `shell` wants a terminal in the guest instead of tests. `suite` is the guest's release of Debian, `arch` its
    architecture, as Debian names them.
    """

    checkout: Path
    tests: Sequence[str] = TESTS
    shell: bool = False
    suite: str = SUITE
    arch: str = AMD64.name


@dataclass
class Course:
    """How long each step took, in seconds, and whether the tests passed."""

    steps: dict[str, float] = field(default_factory=dict)
    passed: bool = True
    clock: Callable[[], float] = time.monotonic

    @contextmanager
    def step(self, title: str, say: Callable[[str], None]) -> Iterator[None]:
        say(f"{title} ...")
        began = self.clock()
        yield
        self.steps[title] = self.clock() - began

    def __str__(self) -> str:
        lines = [f"{seconds:6.0f} s  {title}" for title, seconds in self.steps.items()]
        return "\n".join([*lines, f"{sum(self.steps.values()):6.0f} s  in all"])


def run_session(options: Options, say: Callable[[str], None]) -> Course:
    """The guest and all that it did are gone afterwards; the image stays for the next time."""
    course = Course()
    shape = Shape([node.mac() for node in CARDS.hosts])
    wanted = recipe(options.checkout, options.suite, options.arch)
    with furnished_guest(options.checkout, shape, course, say, wanted) as guest:
        if options.shell:
            guest.follow("bash", "-c", _SHELL, terminal=True)
        else:
            with course.step("testing", say):
                usual = options.tests is TESTS and options.arch == AMD64.name
                timeout = TESTING if usual else CHOSEN
                course.passed = guest.follow("bash", "-c", _testing(options), timeout=timeout) == 0
    return course


@contextmanager
def furnished_guest(
    checkout: Path,
    shape: Shape,
    course: Course,
    say: Callable[[str], None],
    wanted: Recipe | None = None,
) -> Iterator[Guest]:
    """A guest in which the project is installed; first the image is made, if it is not there. `wanted`: other than
    the usual one."""
    home, wanted = checkout / ".lab" / "vm", wanted or recipe(checkout)
    image = Image(home, image_name(wanted), wanted.target)
    if not image.is_made_by(wanted):
        with course.step("building the disk image", say):
            image.make(wanted, say)
    with course.step("packing the project", say), workshop(home) as work:
        content = parcel(checkout, work)
    with ExitStack() as stack:
        with course.step("booting", say):
            guest = stack.enter_context(Guest(image, home / "console.log", shape))
        with course.step("installing the project", say):
            _install(guest, content)
        say(f"the guest runs {guest.run('uname', '-srv').strip()}")
        yield guest


def image_name(wanted: Recipe) -> str:
    """The images of each release and architecture are kept beside each other."""
    usual = {SUITE, AMD64.name}
    return "-".join(["image", *(part for part in (wanted.suite, wanted.architecture) if part not in usual)])


def _install(guest: Guest, content: bytes) -> None:
    guest.run("mkdir", PLACE)
    guest.run("tar", "-x", "-C", PLACE, data=content)
    pip = f"{ENVIRONMENT}/bin/pip install --quiet --no-index --no-deps --root-user-action=ignore"
    guest.run("bash", "-c", f"{pip} {PLACE}/*.whl", timeout=INSTALLING)


def _testing(options: Options) -> str:
    pytest = shlex.join([PYTHON, "-m", "pytest", "-p", "no:cacheprovider", *options.tests])
    return f"cd {PLACE} && exec {pytest}"
