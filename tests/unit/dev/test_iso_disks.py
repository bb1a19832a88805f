# SPDX-License-Identifier: Apache-2.0
"""Which disk the install CD writes, and which it never does."""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dev.iso.medium import disks, machine, mark, partitions, rescue
from dev.iso.medium.disks import Disk, RefusedError, choose
from dev.iso.medium.mark import Mark, State
from dev.iso.medium.target import Target

GB = 10**9
LOOP_CTL_GET_FREE = 0x4C82  # include/uapi/linux/loop.h
EMPTY = Disk("/dev/sda", 500 * GB, "EMPTY")
FULL = Disk("/dev/sdb", 500 * GB, "FULL", content="ext4 'home'", foreign=True)
BEGUN = Disk("/dev/sdc", 500 * GB, "BEGUN", content="a partition table (gpt)", mark=Mark(State.UNFINISHED))
DONE = Disk(
    "/dev/sdd", 500 * GB, "DONE", content="a partition table (gpt)", mark=Mark(State.FINISHED, "digest")
)
SMALL = Disk("/dev/sde", 2 * GB, "SMALL")
STICK = Disk("/dev/sdf", 64 * GB, "STICK", transport="usb")

CHOSEN = {
    "the empty one": ([FULL, EMPTY], None, EMPTY),
    "the first of two empty ones": ([EMPTY, replace(EMPTY, path="/dev/sdx")], None, EMPTY),
    "where an installation was killed, before an empty one": ([EMPTY, BEGUN], None, BEGUN),
    "the one with data that is named": ([EMPTY, FULL], "FULL", FULL),
    "a named memory stick": ([EMPTY, STICK], "STICK", STICK),
    "what other answers installed, if named": ([DONE], "DONE", DONE),
}


@pytest.mark.parametrize(("present", "serial", "wanted"), CHOSEN.values(), ids=CHOSEN)
def test_it_takes(present: list[Disk], serial: str | None, wanted: Disk) -> None:
    assert choose(present, serial, "other answers") == wanted


REFUSED = {
    "a disk with data": (
        [FULL],
        None,
        r"no disk is empty.*/dev/sdb \(500.0 GB, serial number FULL\): ext4 'home'",
    ),
    "an installed disk": ([DONE], None, "no disk is empty"),
    "a small disk": ([SMALL], None, "no disk is empty"),
    "a memory stick": ([STICK], None, "no disk is empty"),
    "a disk that was begun and then used": ([replace(BEGUN, foreign=True)], None, "no disk is empty"),
    "no disk": ([], None, "Disks here: none"),
    "another than the named one": ([EMPTY], "OTHER", "no disk has the serial number 'OTHER'.*EMPTY"),
    "one of two with the same number": ([FULL, replace(FULL, path="/dev/sdx")], "FULL", "two disks have"),
    "a small one that is named": ([SMALL], "SMALL", "too small"),
    "what the same answers installed": ([DONE], "DONE", "was installed by this very answer file"),
}


@pytest.mark.parametrize(("present", "serial", "sentence"), REFUSED.values(), ids=REFUSED)
def test_it_refuses(present: list[Disk], serial: str | None, sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence):
        choose(present, serial, "digest")


def disk_file(directory: Path, size: int = 64 << 20) -> Path:
    path = directory / "disk"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_disk_of_zeros_has_nothing_on_it(tmp_path: Path) -> None:
    path = disk_file(tmp_path)

    assert (disks.signature_of(path), disks.data_in(path, path.stat().st_size)) == ("", "")


@pytest.mark.parametrize(
    "offset", [0, 4 << 20, 32 << 20, (64 << 20) - 1], ids=["start", "inside", "middle", "end"]
)
def test_an_octet_on_a_disk_is_data(tmp_path: Path, offset: int) -> None:
    path = disk_file(tmp_path)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"x")

    assert disks.data_in(path, path.stat().st_size).startswith("data at octet")


def test_a_file_system_is_named(tmp_path: Path) -> None:
    path = disk_file(tmp_path)
    subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-L", "home", path], check=True)

    assert disks.signature_of(path) == "ext4 'home'"


def test_the_mark_is_where_no_partition_is(tmp_path: Path) -> None:
    path = disk_file(tmp_path, 1 << 30)
    mark.write(path, Mark(State.UNFINISHED, "digest"))

    subprocess.run(["/sbin/sfdisk", "--quiet", path], input=partitions.table(), text=True, check=True)

    assert disks.mark_of(path) == Mark(State.UNFINISHED, "digest")
    assert disks.signature_of(path) == "a partition table (gpt)"


def test_the_partitions_are_of_bios_and_uefi(tmp_path: Path) -> None:
    path = disk_file(tmp_path, 1 << 30)

    subprocess.run(["/sbin/sfdisk", "--quiet", path], input=partitions.table(), text=True, check=True)

    listed = subprocess.run(
        ["/sbin/sfdisk", "--list", "--output", "Start,Type", path], capture_output=True, text=True, check=True
    ).stdout
    assert [line.split(maxsplit=1) for line in listed.splitlines()[-3:]] == [
        ["2048", "BIOS boot"],
        ["4096", "EFI System"],
        ["266240", "Linux root (x86-64)"],
    ]


def test_a_table_is_ours_by_the_names_of_its_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin", prepend=":")
    path = disk_file(tmp_path, 1 << 30)
    assert not disks.is_ours(path)

    subprocess.run(["/sbin/sfdisk", "--quiet", path], input=partitions.table(), text=True, check=True)
    assert disks.is_ours(path)

    subprocess.run(["/sbin/sfdisk", "--quiet", "--part-label", path, "2", "somebody's"], check=True)
    assert not disks.is_ours(path)


@pytest.mark.parametrize(
    ("disk", "device"),
    [("/dev/sda", "/dev/sda3"), ("/dev/vda", "/dev/vda3"), ("/dev/nvme0n1", "/dev/nvme0n1p3")],
)
def test_a_partitions_device(disk: str, device: str) -> None:
    assert partitions.partition(disk, partitions.ROOT) == device


@pytest.mark.parametrize(
    "block", [b"", bytes(mark.SIZE), b"XDPDIRECTOR-INSTALL-CD\n{", b"XDPDIRECTOR-INSTALL-CD\n{}"]
)
def test_what_is_no_mark_is_none(block: bytes) -> None:
    assert mark.unpack(block) is None


NODES = """\
[ -b /dev/$1 ] || mknod /dev/$1 b $(tr : ' ' </sys/class/block/$1/dev)
for each in /sys/class/block/$1p*; do
    [ -e $each ] || continue
    rm -f /dev/$(basename $each)
    mknod /dev/$(basename $each) b $(tr : ' ' <$each/dev)
done
"""
"""Device nodes of a disk and its partitions, where /dev is no devtmpfs: in a container. A partition that is found
again has another number."""


@pytest.fixture
def attached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty disk, as a loop device. Its partitions come by partx(8), instead of udev and of a kernel that reads
    their tables itself."""
    before = set(Path("/dev").iterdir())
    device = free_loop()
    subprocess.run(["losetup", device, disk_file(tmp_path, disks.SMALLEST)], check=True)
    udevadm = tmp_path / "bin/udevadm"
    udevadm.parent.mkdir()
    udevadm.write_text(f"#!/bin/sh\nset -e {Path(device).name}\npartx --update {device}\n{NODES}")
    udevadm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{udevadm.parent}:/usr/sbin:/sbin", prepend=":")
    monkeypatch.setattr(machine, "LOG", tmp_path / "log")
    yield device
    subprocess.run(["partx", "--delete", device], check=False)
    subprocess.run(["losetup", "--detach", device], check=True)
    for node in set(Path("/dev").glob(f"{Path(device).name}*")) - before:
        node.unlink(missing_ok=True)


def free_loop() -> str:
    """A loop device that nobody uses: loop(4)."""
    control = Path("/dev/loop-control")
    if not control.exists():
        os.mknod(control, stat.S_IFCHR | 0o600, os.makedev(10, 237))
    with control.open() as opened:
        number = fcntl.ioctl(opened, LOOP_CTL_GET_FREE)
    subprocess.run(["sh", "-ec", NODES, "sh", f"loop{number}"], check=True)
    return f"/dev/loop{number}"


def found(device: str) -> Disk:
    return disks.probed({"path": device, "size": disks.SMALLEST, "serial": "", "model": "", "tran": ""})


@pytest.mark.root
def test_an_installation_that_was_killed_is_ours_and_a_lost_partition_table_is_written_again(
    attached: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "_disks", lambda: [found(attached)])
    installed, kept = Target(attached, tmp_path / "root"), tmp_path / "root/kept"
    installed.divide(Mark(State.UNFINISHED, "answers"))
    assert choose([found(attached)], None).is_begun

    with mounted_root(installed):
        kept.write_text("what was in the partitions\n")
    installed.finish(Mark(State.FINISHED, "answers"))
    with pytest.raises(RefusedError, match="no disk is empty"):
        choose([found(attached)], None)
    lose_table(attached)
    assert not rescue.has_system(found(attached))

    repaired = rescue.with_table(None)

    assert repaired == attached
    with mounted_root(installed):
        assert kept.read_text() == "what was in the partitions\n"


@contextmanager
def mounted_root(target: Target) -> Iterator[None]:
    """Alone: not each kernel knows FAT."""
    target.root.mkdir(exist_ok=True)
    subprocess.run(["mount", partitions.partition(target.disk, partitions.ROOT), target.root], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target.root], check=True)


def lose_table(device: str) -> None:
    """All before the second partition, but the mark."""
    with Path(device).open("r+b") as disk:
        disk.write(bytes(mark.OFFSET))
        disk.seek(mark.OFFSET + mark.SIZE)
        disk.write(bytes(1 << 20))
    subprocess.run(["partx", "--delete", device], check=True)
