# SPDX-License-Identifier: Apache-2.0
"""The parts of `./lab vm` that need no virtual machine: the recipe, QEMU's arguments, the parcel, the account."""

from __future__ import annotations

import io
import itertools
import os
import platform
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dev.vm import foreign_programs, qemu
from dev.vm.architecture import AMD64, ARCHITECTURES, ARM64, Architecture
from dev.vm.build_dir import Runner, workshop
from dev.vm.image import Image
from dev.vm.payload import parcel
from dev.vm.recipe import PYTHONS, Recipe, recipe
from dev.vm.rootfs import RootFs
from dev.vm.session import CARDS, TESTS, Course, image_name
from xdpdirector.errors import NotFoundError
from xdpdirector.lab.errors import LabError

CHECKOUT = Path(__file__).parents[3]
RECIPE = Recipe(requirements=("h11>=0.14,<1",))
MACHINE = qemu.Machine(
    kernel=Path("/image/vmlinuz"),
    initrd=Path("/image/initrd"),
    disk=Path("/image/disk"),
    console=Path("/image/console.log"),
    port=20022,
)


def after(line: list[str], option: str) -> list[str]:
    """The values of an option that may stand there several times."""
    return [value for word, value in itertools.pairwise(line) if word == option]


class TestRecipe:
    def test_the_guest_gets_what_the_project_requires_and_what_its_tests_use(self) -> None:
        names = {line.split(">")[0] for line in recipe(CHECKOUT).requirements}

        assert {"fastapi", "pyroute2", "pytest", "hypothesis", "scapy"} <= names
        assert not {"ruff", "mypy"} & names

    def test_each_release_has_its_image(self) -> None:
        images = {suite: recipe(CHECKOUT, suite) for suite in PYTHONS}

        assert {each.suite for each in images.values()} == {"bookworm", "trixie"}
        assert len({each.digest for each in images.values()}) == len(images)
        assert recipe(CHECKOUT) == images["bookworm"]

    def test_another_release_is_refused(self) -> None:
        with pytest.raises(NotFoundError, match=r"no image of 'woody': use bookworm or trixie"):
            recipe(CHECKOUT, "woody")

    def test_each_architecture_has_its_image_and_kernel(self) -> None:
        images = {name: recipe(CHECKOUT, "bookworm", name) for name in ARCHITECTURES}

        assert {each.architecture for each in images.values()} == {"amd64", "arm64"}
        assert len({each.digest for each in images.values()}) == len(images)
        assert "linux-image-arm64" in images["arm64"].packages
        assert "linux-image-amd64" not in images["arm64"].packages

    def test_images_of_releases_and_architectures_are_kept_beside_each_other(self) -> None:
        names = [image_name(recipe(CHECKOUT, suite, arch)) for suite in PYTHONS for arch in ARCHITECTURES]

        assert names == ["image", "image-arm64", "image-trixie", "image-trixie-arm64"]

    def test_another_architecture_is_refused(self) -> None:
        with pytest.raises(NotFoundError, match=r"architecture 'vax': use amd64 or arm64"):
            recipe(CHECKOUT, "bookworm", "vax")

    def test_a_directory_that_is_no_checkout_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="no checkout"):
            recipe(tmp_path)

    @pytest.mark.parametrize(
        "changes",
        [
            {"requirements": ("h11>=0.15,<1",)},
            {"packages": ("systemd-sysv",)},
            {"files": {"etc/hostname": "other\n"}},
            {"early_files": {}},
            {"disabled": ()},
            {"megabytes": 4000},
            {"architecture": "arm64"},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_another_recipe_makes_another_image(self, tmp_path: Path, changes: dict[str, object]) -> None:
        image = Image(tmp_path)
        image.directory.mkdir()
        image.stamp.write_text(RECIPE.digest)

        assert image.is_made_by(replace(RECIPE))
        assert not image.is_made_by(replace(RECIPE, **changes))  # type: ignore[arg-type]

    def test_half_an_image_is_none(self, tmp_path: Path) -> None:
        image = Image(tmp_path)
        image.directory.mkdir()
        image.disk.touch()

        assert not image.is_made_by(RECIPE)


class TestWorkshop:
    def test_it_goes_with_its_block(self, tmp_path: Path) -> None:
        with workshop(tmp_path / "home") as work:
            (work / "half").mkdir()

        assert list((tmp_path / "home").iterdir()) == []

    def test_what_a_killed_run_left_goes_first_and_nothing_else(self, tmp_path: Path) -> None:
        (tmp_path / "image").mkdir()
        with workshop(tmp_path) as work:
            left = work.with_name(f"{work.name}-killed")
            left.mkdir()

        with workshop(tmp_path):
            assert not left.exists()

        assert [path.name for path in tmp_path.iterdir()] == ["image"]

    def test_nobody_removes_what_another_run_builds(self, tmp_path: Path) -> None:
        with workshop(tmp_path) as work:
            with pytest.raises(LabError, match="another run builds in"), workshop(tmp_path):
                pass
            assert work.is_dir()


class TestRunner:
    def test_a_failure_ends_with_the_log_s_last_words(self, tmp_path: Path) -> None:
        log = tmp_path / "log"

        with (
            log.open("w") as file,
            pytest.raises(LabError, match=r"'sh' ended with status 3: no bread .*log"),
        ):
            Runner(file.fileno(), log, ())("sh", "-c", "echo no bread; exit 3")

    def test_what_is_said_goes_into_the_log(self, tmp_path: Path) -> None:
        log = tmp_path / "log"

        with log.open("w") as file:
            Runner(file.fileno(), log, ())(
                "sh", "-c", "echo $PLACE; echo bread >&2", environment={"PLACE": "here"}
            )

        assert log.read_text() == "here\nbread\n"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_packages_and_wheels_are_of_the_guest_s_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, machine: str
) -> None:
    """That of the machine that makes the image goes without saying."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    theirs = ARCHITECTURES[architecture]
    commands: list[tuple[str, ...]] = []

    class Recorder(Runner):
        def __call__(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
            commands.append(command)
            (tmp_path / "root/opt/wheels").mkdir(parents=True, exist_ok=True)

    root = RootFs(
        tmp_path / "root", replace(RECIPE, architecture=architecture), Recorder(0, tmp_path / "log")
    )
    root.debian()
    root.python()

    is_foreign = theirs.machine != machine
    assert (f"--architectures={architecture}" in commands[0]) is is_foreign
    wheels = after(list(commands[1]), "--platform")
    assert (f"manylinux_2_28_{theirs.machine}" in wheels) is bool(wheels) is is_foreign


class TestForeignPrograms:
    def test_the_machine_s_own_need_nothing(self) -> None:
        with foreign_programs.runnable(ARM64, machine="aarch64"):
            pass

    def test_without_an_emulator_the_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")

        with (
            pytest.raises(LabError, match=r"qemu-aarch64-static.*apt-get install qemu-user-static"),
            foreign_programs.runnable(ARM64, machine="x86_64"),
        ):
            pass

    def test_the_kernel_is_told_by_how_such_programs_begin(self) -> None:
        """Documentation/admin-guide/binfmt-misc.rst: of `mask`, bits that are 0 are not compared."""
        line = foreign_programs.registration("arm", ARM64, "/usr/bin/emulator")

        empty, name, kind, offset, magic, mask, emulator, flags = line.split(":")
        pattern, bits = (bytes.fromhex(text.replace("\\x", "")) for text in (magic, mask))
        assert (empty, name, kind, offset, emulator, flags) == ("", "arm", "M", "", "/usr/bin/emulator", "PF")

        def fits(head: bytes) -> bool:
            return all(
                found & bit == wanted & bit for found, bit, wanted in zip(head, bits, pattern, strict=True)
            )

        theirs = [elf(machine=183), elf(machine=183, kind=3), elf(machine=183, abi=3)]
        others = [elf(machine=62), elf(machine=183, kind=1)]
        assert [fits(head) for head in (*theirs, *others)] == [True] * 3 + [False] * 2


def elf(machine: int, kind: int = 2, abi: int = 0) -> bytes:
    """The beginning of a 64-bit little-endian program (ELF header, e_ident, e_type, e_machine)."""
    return b"\x7fELF\x02\x01\x01" + bytes([abi]) + bytes(8) + struct.pack("<HH", kind, machine)


class TestQemu:
    def test_only_ssh_leads_in_and_only_from_this_machine(self) -> None:
        (network,) = after(qemu.command(MACHINE), "-netdev")

        assert network == "user,id=ssh,restrict=on,hostfwd=tcp:127.0.0.1:20022-:22"

    def test_the_image_is_only_read(self) -> None:
        (drive,) = after(qemu.command(MACHINE), "-drive")

        assert "snapshot=on" in drive.split(",")

    @pytest.mark.parametrize("architecture", [AMD64, ARM64], ids=lambda each: each.name)
    def test_the_kernel_speaks_on_the_board_s_serial_line(self, architecture: Architecture) -> None:
        line = qemu.command(replace(MACHINE, architecture=architecture))

        words = after(line, "-append")[0].split()
        assert architecture.emulator in line
        assert after(line, "-machine") == [architecture.board]
        assert [word for word in words if word.startswith("console=")] == [f"console={architecture.console}"]

    def test_it_ends_with_its_parent(self) -> None:
        assert qemu.command(MACHINE)[:3] == ["setpriv", "--pdeathsig", "KILL"]

    def test_the_kernel_that_gives_up_ends_it(self) -> None:
        line = qemu.command(MACHINE)

        assert "-no-reboot" in line
        assert "panic=-1" in after(line, "-append")[0].split()

    def test_cards_stand_on_one_hub(self) -> None:
        macs = [node.mac() for node in CARDS.hosts]

        line = qemu.command(replace(MACHINE, shape=qemu.Shape(macs)))

        hub = [value for value in after(line, "-netdev") if value.startswith("hubport,")]
        cards = [value for value in after(line, "-device") if ",mac=" in value]
        assert hub == [f"hubport,id=card{number},hubid=0" for number in range(len(macs))]
        assert cards == [f"virtio-net-pci,netdev=card{number},mac={mac}" for number, mac in enumerate(macs)]

    def test_a_clock_that_counts_instructions_needs_one_thread_and_plain_copies(self) -> None:
        line = qemu.command(replace(MACHINE, shape=qemu.Shape(counting=True)))

        assert after(line, "-icount") == ["shift=0,sleep=off"]
        assert "thread=single" in after(line, "-accel")[0].split(",")
        assert after(line, "-cpu") == ["max,-erms,-fsrm"]

    def test_a_comma_in_a_path_separates_nothing(self) -> None:
        line = qemu.command(replace(MACHINE, disk=Path("/a,b/disk"), console=Path("/a,b/console")))

        assert after(line, "-drive")[0].startswith("file=/a,,b/disk,format=raw,")
        assert after(line, "-serial") == ["file:/a,,b/console"]


def test_the_parcel_holds_a_wheel_and_the_tests_and_nothing_that_was_left_there(
    tmp_path: Path,
) -> None:
    with tarfile.open(fileobj=io.BytesIO(parcel(CHECKOUT, tmp_path))) as archive:
        names = archive.getnames()
        owners = {(member.uid, member.uname) for member in archive.getmembers()}

    assert len([name for name in names if name.endswith(".whl")]) == 1
    wanted = {
        "pyproject.toml",
        "tests/vm/conftest.py",
        "tests/support/world.py",
        "examples/designs/vlans/director.yaml",
    }
    assert wanted <= set(names)
    assert not [name for name in names if "__pycache__" in name]
    assert owners == {(0, "root")}


def test_the_tests_that_are_chosen_exist() -> None:
    paths = [word.removeprefix("--deselect=") for word in TESTS]

    for path in paths:
        if path.startswith("tests"):
            file, _, name = path.partition("::")
            assert (CHECKOUT / file).exists(), path
            name, _, _ = name.partition("[")
            assert not name or f"def {name}(" in (CHECKOUT / file).read_text(), path


def test_the_account_tells_each_step_and_the_sum() -> None:
    said: list[str] = []
    course = Course(clock=iter([10.0, 12.0, 20.0, 50.4]).__next__)

    with course.step("packing", said.append):
        pass
    with course.step("booting", said.append):
        pass

    assert said == ["packing ...", "booting ..."]
    assert str(course).split(os.linesep) == [
        "     2 s  packing",
        "    30 s  booting",
        "    32 s  in all",
    ]
