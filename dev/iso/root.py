# SPDX-License-Identifier: Apache-2.0
"""The Debian system that the medium starts and installs, as a directory: no keys, no logs, no identity.

The same packages make the same octets: what differs from one building to the next is removed, or has the commit's
time. Knows nothing of media and boot loaders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from dev.iso import recipe
from dev.vm.build_dir import Runner
from dev.vm.rootfs import write
from xdpdirector.lab.errors import LabError
from xdpdirector.loader import compile_cache
from xdpdirector.paths import COMPILED

_PLACE = "var/tmp/packages"
_DAY = 86400
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_PYTHON = "/usr/lib/xdpdirector/bin/python3"
_PROGRAMS = 2  # for traffic, and the one that explains
_PROTOCOL = b"HdrS"
_IN_SYSTEM = """\
set -e
mount --bind "$0" "$0" # unshare(1) in there wants the root to be a mount
mount -t proc proc "$0/proc"
mount -t sysfs sysfs "$0/sys"
exec chroot "$0" "$@"
"""


class Root:
    """The system in `path`; `epoch`: seconds since 1970, no file is younger."""

    def __init__(self, path: Path, epoch: int, run: Runner) -> None:
        self.path, self.epoch, self.run = path, epoch, run

    def make(self, packages: Sequence[Path]) -> None:
        """From Debian's packages and `packages`. LabError with the log's end."""
        self._debian()
        self._install(packages)
        self._settings()

    def _debian(self) -> None:
        early = self.path.parent / "early"
        write(early, recipe.EARLY_FILES)
        options = ["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]
        options += [f"--components={recipe.COMPONENTS}"]
        options += ["--aptopt=Acquire::Languages { none }", "--aptopt=APT::Install-Recommends false"]
        options += [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("locale", "man", "info")]
        options += [
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
        ]
        options += ["--dpkgopt=path-include=/usr/share/doc/xdpdirector/*"]
        options += [f'--essential-hook=cp -r "{early}/." "$1"', f"--include={','.join(recipe.PACKAGES)}"]
        environment = {**os.environ, **self._environment}
        self.run("mmdebstrap", *options, recipe.SUITE, str(self.path), environment=environment)

    def _install(self, packages: Sequence[Path]) -> None:
        place = self.path / _PLACE
        place.mkdir(parents=True)
        for package in packages:
            shutil.copy(package, place)
        self.inside("dpkg", "--install", *(f"/{_PLACE}/{package.name}" for package in packages))
        shutil.rmtree(place)

    def _settings(self) -> None:
        write(self.path, recipe.FILES)
        self.inside("systemctl", "--quiet", "disable", *recipe.DISABLED)
        self.inside("systemctl", "--quiet", "enable", *recipe.ENABLED)
        self.inside("passwd", "--quiet", "--lock", "root")

    def finish(self) -> None:
        """What is another one each time goes, and nothing is younger than the commit."""
        self._clean()
        self._date()  # what was compiled is kept by these times
        self._compile()
        self._date()

    def _compile(self) -> None:
        """The packet program, for the kernel in there, so that no start of a director needs the compiler. LabError
        where this machine's kernel takes no BPF programs."""
        kernel = kernel_name((self.path / f"boot/vmlinuz-{self.version}").read_bytes())
        environment = {
            "PATH": _PATH,
            "HOME": "/root",
            "PYTHONDONTWRITEBYTECODE": "1",
            compile_cache.FOR: kernel,
        }
        command = (_PYTHON, "-I", "-B", "-m", "xdpdirector", "load", "--compile")
        self.run(
            "sh", "-c", _IN_SYSTEM, str(self.path), *command, environment=environment | self._environment
        )
        if len([*(self.path / COMPILED.relative_to("/")).glob("*.json")]) != _PROGRAMS:
            raise LabError("the packet program was not kept when it was compiled for the medium")

    def _date(self) -> None:
        for path in (self.path, *self.path.rglob("*")):
            if path.lstat().st_mtime > self.epoch:
                os.utime(path, (self.epoch, self.epoch), follow_symlinks=False)

    def _clean(self) -> None:
        for pattern in recipe.VOLATILE:
            for found in sorted(self.path.glob(pattern)):
                shutil.rmtree(found) if found.is_dir() and not found.is_symlink() else found.unlink()
        (self.path / "etc/machine-id").write_text("")
        resolver = self.path / "etc/resolv.conf"
        resolver.unlink(missing_ok=True)
        resolver.symlink_to("../run/systemd/resolve/stub-resolv.conf")
        shadow = self.path / "etc/shadow"
        shadow.write_text(dated(shadow.read_text(), self.epoch // _DAY))

    def asked(self, *command: str) -> str:
        """What a command in there prints."""
        done = subprocess.run(
            ["chroot", str(self.path), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    @property
    def version(self) -> str:
        """The kernel's."""
        (found,) = (self.path / "lib/modules").iterdir()
        return found.name

    def inside(self, *command: str) -> None:
        place = {
            "PATH": _PATH,
            "HOME": "/root",
            "DEBIAN_FRONTEND": "noninteractive",
        }
        self.run("chroot", str(self.path), *command, environment=place | self._environment)

    @property
    def _environment(self) -> dict[str, str]:
        return {"LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(self.epoch), "PYTHONHASHSEED": "0"}


def kernel_name(image: bytes) -> str:
    """Release and version of the kernel in a bzImage, as `uname -rv` prints them when it runs; see the kernel's
    Documentation/arch/x86/boot.rst, kernel_version. LabError when there is none."""
    start = int.from_bytes(image[0x20E:0x210], "little") + 0x200
    said = image[start : start + 512].split(b"\0")[0].decode("ascii", errors="replace")
    release, _, rest = said.partition(" ")
    _, mark, version = rest.partition(") #")
    if image[0x202:0x206] != _PROTOCOL or not mark:
        raise LabError("the kernel of the medium does not say which one it is")
    return f"{release} #{version}"


def dated(shadow: str, day: int) -> str:
    """A text of shadow(5) in which all passwords were changed on that day, counted from 1970."""
    lines = [line.split(":") for line in shadow.splitlines()]
    return "".join(":".join((*fields[:2], str(day), *fields[3:])) + "\n" for fields in lines)
