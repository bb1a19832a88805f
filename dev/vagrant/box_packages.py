# SPDX-License-Identifier: Apache-2.0
"""What the project's own Vagrant box consists of. Values only; builds nothing.

It is like the public boxes of Debian: ifupdown, DHCP on the first card, a user `vagrant` with the key that
everybody knows. And it holds all that provision/*.sh would fetch: its machines reach no network.
"""

from __future__ import annotations

from collections.abc import Iterable

from dev.vm.recipe import DISABLED, EARLY_FILES, Recipe

USER = "vagrant"
DISK = "/dev/vda1"
KERNEL_OPTIONS = (
    f"root={DISK} rw net.ifnames=0 console=ttyS0 mitigations=off quiet systemd.show_status=0 panic=10"
)
PACKAGES = (
    *("systemd-sysv", "udev", "kmod", "dbus", "linux-image-amd64", "initramfs-tools"),  # it boots
    *(
        "openssh-server",
        "sudo",
        "ifupdown",
        "isc-dhcp-client",
        "iproute2",
        "procps",
        "iputils-ping",
    ),  # Vagrant
    *("nginx-light", "curl", "keepalived", "ethtool"),  # provision/*.sh
)
_SLOW = "[Service]\nTimeoutStartSec=900\nWatchdogSec={watchdog}\n"
FILES = {
    "etc/hostname": "bookworm\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/machine-id": "",  # each machine gets its own, and none counts as booted for the first time
    "etc/fstab": f"{DISK} / ext4 noatime 0 1\n",
    "etc/network/interfaces": "auto lo\niface lo inet loopback\nallow-hotplug eth0\niface eth0 inet dhcp\n",
    "etc/ssh/sshd_config.d/vagrant.conf": "UseDNS no\nPasswordAuthentication no\n",
    f"etc/sudoers.d/{USER}": f"{USER} ALL=(ALL) NOPASSWD: ALL\n",
    # Whatever waits for something waits long enough for a machine that is emulated: compiling takes minutes there.
    "etc/systemd/system.conf.d/slow.conf": "[Manager]\nDefaultTimeoutStartSec=600s\n",
    "etc/systemd/system/xdpdirector-load.service.d/slow.conf": _SLOW.format(watchdog=0),
    "etc/systemd/system/xdpdirector.service.d/slow.conf": _SLOW.format(watchdog=300),
}
STOPPED = ("nginx", "keepalived")  # until somebody enables them
MASKED = tuple(unit for unit in DISABLED if unit not in (*STOPPED, "ipvsadm"))


def ingredients(depended: Iterable[str]) -> Recipe:
    """`depended`: the packages that the project's own ones depend on."""
    return Recipe(
        requirements=(),
        packages=(*PACKAGES, *sorted(set(depended) - set(PACKAGES))),
        early_files=EARLY_FILES,
        files=FILES,
        enabled=("ssh",),
        disabled=MASKED,
        megabytes=6000,
    )


def names(depends: str) -> list[str]:
    """The packages that a field Depends (Debian Policy 7.1) names; of alternatives the first."""
    first = (each.split("|")[0] for each in depends.split(","))
    return [each.split("(")[0].split(":")[0].strip() for each in first if each.strip()]
