# SPDX-License-Identifier: Apache-2.0
"""A bootable disk image from Debian's packages: made when its recipe changed, kept otherwise.

No loop device and no boot loader: the file system is written straight into a file, and QEMU loads the kernel
that lies beside it. Knows nothing of what the guest is for.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from dev.vm.architecture import AMD64, Architecture
from dev.vm.build_dir import Runner, check_tools, remove, workshop
from dev.vm.foreign_programs import runnable
from dev.vm.recipe import Recipe
from dev.vm.rootfs import RootFs

HOST = "xdpdirector-vm"  # the guest's name in known_hosts
_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
}


class Image:
    """The image kept in `directory`/`name`; `directory`/`name`.log says how it was made."""

    def __init__(self, directory: Path, name: str = "image", architecture: Architecture = AMD64) -> None:
        self._home, self.architecture = directory, architecture
        self.directory = directory / name
        self.log = directory / f"{name}.log"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"

    @property
    def disk(self) -> Path:
        return self.directory / "disk"

    @property
    def key(self) -> Path:
        """The private key of the only one who may log in."""
        return self.directory / "key"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def stamp(self) -> Path:
        """Written last: the recipe's digest."""
        return self.directory / "stamp"

    def is_made_by(self, recipe: Recipe) -> bool:
        return self.stamp.is_file() and self.stamp.read_text() == recipe.digest

    def make(self, recipe: Recipe, say: Callable[[str], None]) -> None:
        """Build it; half an image never takes the place of the one before. LabError with the log's end."""
        target = recipe.target
        check_tools(_TOOLS | {target.emulator: target.emulator_package})
        with runnable(target), workshop(self._home) as work, self.log.open("w") as log:
            builder = _ImageBuilder(
                RootFs(work / "root", recipe, Runner(log.fileno(), self.log)), Image(work)
            )
            builder.image.directory.mkdir(mode=0o700)
            builder.build(say)
            builder.image.stamp.write_text(recipe.digest)
            remove(self.directory)
            builder.image.directory.rename(self.directory)


class _ImageBuilder:
    """One image in the making: `root` is its file system as a directory."""

    def __init__(self, root: RootFs, image: Image) -> None:
        self.root, self.image, self.recipe, self.run = root, image, root.recipe, root.run

    def build(self, say: Callable[[str], None]) -> None:
        say(f"installing {len(self.recipe.packages)} Debian packages and what they need")
        self.root.debian()
        say("installing the Python packages")
        self.root.python()
        self.root.settings()
        self._keys()
        say("writing the disk image")
        self._disk()

    def _keys(self) -> None:
        key = self.image.key
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", HOST, "-f", str(key))
        home = self.root.path / "root/.ssh"
        home.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(key.with_suffix(".pub"), home / "authorized_keys")
        (home / "authorized_keys").chmod(0o600)
        host_key = (self.root.path / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        self.image.known_hosts.write_text(f"{HOST} {host_key}")

    def _disk(self) -> None:
        for name, target in (("vmlinuz", self.image.kernel), ("initrd.img", self.image.initrd)):
            (found,) = (self.root.path / "boot").glob(f"{name}-*")
            shutil.copy(found, target)
        with self.image.disk.open("wb") as disk:
            disk.truncate(self.recipe.megabytes << 20)
        self.run("mke2fs", "-q", "-t", "ext4", "-d", str(self.root.path), str(self.image.disk))
