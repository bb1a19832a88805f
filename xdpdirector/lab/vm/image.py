# SPDX-License-Identifier: Apache-2.0
"""A bootable disk image from Debian's packages: made when its recipe changed, kept otherwise.

No loop device and no boot loader: the file system is written straight into a file, and QEMU loads the kernel
that lies beside it. Knows nothing of what the guest is for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.vm.recipe import Recipe

HOST = "xdpdirector-vm"  # the guest's name in known_hosts
ENVIRONMENT = Path("/opt/xdpdirector")  # the guest's virtual environment
_WHEELS = "opt/wheels"
_WORKSHOP = "work-"
# All of what builds ends with us, also when we are killed: its process namespace goes with the first process in it.
_MORTAL = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--mount", "--fork", "--kill-child", "--")
_NICE = ("nice", "-n", "10")
_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "ssh-keygen": "openssh-client",
    "setpriv": "util-linux",
    "qemu-system-x86_64": "qemu-system-x86",
}


class Image:
    """The image kept in `directory`/image; `directory`/image.log says how it was made."""

    def __init__(self, directory: Path, name: str = "image") -> None:
        self._home = directory
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
        _check_tools()
        with workshop(self._home) as work, self.log.open("w") as log:
            kitchen = _Kitchen(work / "root", Image(work), recipe, Runner(log.fileno(), self.log))
            kitchen.image.directory.mkdir(mode=0o700)
            kitchen.cook(say)
            kitchen.image.stamp.write_text(recipe.digest)
            _remove(self.directory)
            kitchen.image.directory.rename(self.directory)


class Runner:
    """Runs what builds, with its output in a log, whose name is `name`; `before` stands before each command."""

    def __init__(self, log: int, name: Path, before: Sequence[str] = (*_MORTAL, *_NICE)) -> None:
        self._log, self._name, self._before = log, name, before

    def __call__(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            [*self._before, *command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            check=False,
            env=environment,
        )
        if done.returncode:
            words = " / ".join(self._name.read_text(errors="replace").strip().splitlines()[-5:])
            raise LabError(
                f"'{command[0]}' ended with status {done.returncode}: {words} (all of it: {self._name})"
            )


class _Kitchen:
    """One image in the making: `root` is its file system as a directory."""

    def __init__(self, root: Path, image: Image, recipe: Recipe, run: Runner) -> None:
        self.root, self.image, self.recipe, self.run = root, image, recipe, run

    def cook(self, say: Callable[[str], None]) -> None:
        say(f"installing {len(self.recipe.packages)} Debian packages and what they need")
        self._debian()
        say("installing the Python packages")
        self._python()
        self._settings()
        self._keys()
        say("writing the disk image")
        self._disk()

    def _debian(self) -> None:
        early = self.root.parent / "early"
        _write(early, self.recipe.early_files)
        options = ["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]
        options += ["--aptopt=Acquire::Languages { none }", "--aptopt=APT::Install-Recommends false"]
        options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
        options += [f'--essential-hook=cp -r "{early}/." "$1"', f"--include={','.join(self.recipe.packages)}"]
        self.run("mmdebstrap", *options, self.recipe.suite, str(self.root))

    def _python(self) -> None:
        """As README.md says it, and without a network inside: pip fetches the packages here."""
        wheels = self.root / _WHEELS
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        self.run(*pip, "wheel", "--quiet", "--wheel-dir", str(wheels), *self.recipe.requirements)
        self._inside("/usr/bin/python3", "-m", "venv", "--system-site-packages", str(ENVIRONMENT))
        names = [f"/{_WHEELS}/{path.name}" for path in sorted(wheels.glob("*.whl"))]
        self._inside(f"{ENVIRONMENT}/bin/pip", "install", "--quiet", "--no-index", "--no-deps", *names)
        shutil.rmtree(wheels)

    def _settings(self) -> None:
        _write(self.root, self.recipe.files)
        self._inside("systemctl", "--quiet", "enable", *self.recipe.enabled)
        self._inside("systemctl", "--quiet", "mask", *self.recipe.disabled)

    def _keys(self) -> None:
        key = self.image.key
        self.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", HOST, "-f", str(key))
        home = self.root / "root/.ssh"
        home.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(key.with_suffix(".pub"), home / "authorized_keys")
        (home / "authorized_keys").chmod(0o600)
        host_key = (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text()
        self.image.known_hosts.write_text(f"{HOST} {host_key}")

    def _disk(self) -> None:
        for name, target in (("vmlinuz", self.image.kernel), ("initrd.img", self.image.initrd)):
            (found,) = (self.root / "boot").glob(f"{name}-*")
            shutil.copy(found, target)
        with self.image.disk.open("wb") as disk:
            disk.truncate(self.recipe.megabytes << 20)
        self.run("mke2fs", "-q", "-t", "ext4", "-d", str(self.root), str(self.image.disk))

    def _inside(self, *command: str) -> None:
        place = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
        self.run("chroot", str(self.root), *command, environment=place)


def _write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _check_tools() -> None:
    for tool, package in _TOOLS.items():
        if not shutil.which(tool):
            raise LabError(f"the command '{tool}' is missing: apt-get install {package}")


@contextmanager
def workshop(home: Path) -> Iterator[Path]:
    """A new directory in `home`, which exists afterwards, for as long as the block lasts. What a killed run left of
    its own goes first, so only one at a time."""
    home.mkdir(parents=True, exist_ok=True)
    for left in home.glob(f"{_WORKSHOP}*"):
        _remove(left)
    path = Path(tempfile.mkdtemp(prefix=_WORKSHOP, dir=home))
    path.chmod(0o755)  # apt's own user reads there
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    """Never through a mount; mmdebstrap's are gone with its mount namespace."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    if any(line.split()[4].startswith(f"{path}{os.sep}") for line in mounts):
        raise LabError(f"something is mounted below {path}: take it away, then remove the directory")
    if path.exists():
        shutil.rmtree(path)
