# SPDX-License-Identifier: Apache-2.0
"""What the disk image consists of: Debian packages, Python packages, a few files. Values only; builds nothing."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from dev.vm.architecture import AMD64, Architecture, architecture
from xdpdirector.errors import NotFoundError

SUITE = "bookworm"
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
"""Debian 12 and 13, and the Python of each."""
PACKAGES = (
    *("systemd-sysv", "udev", "kmod", AMD64.kernel, "initramfs-tools", "openssh-server"),  # it boots
    *("python3", "python3-venv", "python3-bpfcc", "linux-libc-dev"),  # the director
    *("iproute2", "ethtool", "procps", "nginx", "curl", "iputils-ping", "iputils-arping"),  # the lab
    "ipvsadm",  # who the director is measured against
)
TEST_TOOLS = ("hypothesis", "pytest", "scapy")  # of the project's extra "dev"
MODULES = ("virtio_pci", "virtio_blk", "ext4")  # all that the kernel needs to find its disk

# Before the packages, so that the kernel's first initramfs is the small one.
EARLY_FILES = {
    "etc/initramfs-tools/conf.d/vm": "MODULES=list\n",
    "usr/share/initramfs-tools/modules.d/vm": "".join(f"{module}\n" for module in MODULES),
}
FILES = {
    "etc/hostname": "vm\n",
    "etc/hosts": "127.0.0.1 localhost vm\n::1 localhost\n",
    "etc/fstab": "/dev/vda / ext4 noatime 0 1\n",
    # QEMU's user network (-netdev user): its guest has this address, always.
    "etc/systemd/network/eth0.network": "[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\n",
    "etc/ssh/sshd_config.d/vm.conf": "UseDNS no\nPasswordAuthentication no\n",
}
ENABLED = ("systemd-networkd", "ssh")
DISABLED = (
    *("nginx", "ipvsadm", "e2scrub_reap", "fstrim.timer", "dpkg-db-backup.timer"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "systemd-networkd-wait-online", "systemd-timesyncd"),
)


@dataclass(frozen=True)
class Recipe:
    """`packages` are Debian's, with the kernel; `requirements` are pip's, `suite` is one of `PYTHONS`; `megabytes`
    is the file system's size, most of it a hole in the file."""

    requirements: tuple[str, ...]
    packages: tuple[str, ...] = PACKAGES
    suite: str = SUITE
    architecture: str = AMD64.name
    early_files: Mapping[str, str] = field(default_factory=lambda: EARLY_FILES)
    files: Mapping[str, str] = field(default_factory=lambda: FILES)
    enabled: tuple[str, ...] = ENABLED
    disabled: tuple[str, ...] = DISABLED
    megabytes: int = 3000

    @property
    def digest(self) -> str:
        """Another recipe has another one."""
        said = asdict(self)
        if self.architecture == AMD64.name:  # images of before there were others stay as they are
            del said["architecture"]
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    @property
    def target(self) -> Architecture:
        return architecture(self.architecture)


def recipe(checkout: Path, suite: str = SUITE, arch: str = AMD64.name) -> Recipe:
    """The image for this checkout: what its pyproject.toml requires, and what its tests use."""
    if suite not in PYTHONS:
        raise NotFoundError(f"there is no image of '{suite}': use {' or '.join(PYTHONS)}")
    try:
        project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    except FileNotFoundError as error:
        raise NotFoundError(
            f"{checkout} is no checkout of the project (it has no pyproject.toml): run ./lab vm there"
        ) from error
    kernel = architecture(arch).kernel
    packages = tuple(kernel if name == AMD64.kernel else name for name in PACKAGES)
    return Recipe(_requirements(project), packages=packages, suite=suite, architecture=arch)


def _requirements(project: Mapping[str, Any]) -> tuple[str, ...]:
    tools = [line for line in project["optional-dependencies"]["dev"] if line.startswith(TEST_TOOLS)]
    return (*project["dependencies"], *tools)
