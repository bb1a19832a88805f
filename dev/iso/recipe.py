# SPDX-License-Identifier: Apache-2.0
"""What the install CD consists of: Debian packages, and settings of every machine that it installs. Values only."""

from __future__ import annotations

from collections.abc import Mapping

SUITE = "bookworm"
COMPONENTS = "main"
LABEL = "XDPDIRECTOR"
"""The volume's name."""
LARGEST = 700 << 20
"""Octets: a CD has no more."""

PACKAGES = (
    *("systemd-sysv", "dbus", "udev", "kmod", "libpam-systemd", "systemd-resolved", "systemd-timesyncd"),
    *("linux-image-amd64", "initramfs-tools", "zstd", "live-boot"),
    *("grub2-common", "grub-common", "grub-pc-bin", "grub-efi-amd64-bin", "efibootmgr"),
    *("fdisk", "e2fsprogs", "dosfstools", "squashfs-tools", "pciutils"),
    *("openssh-server", "openssl", "ca-certificates", "apt", "passwd"),
    *("python3-bpfcc", "linux-libc-dev", "libbpf1", "python3-numpy", "python3-rich"),  # the director
    *("nginx-light", "keepalived"),  # a backend's server; the second of a pair
    *(
        "iproute2",
        "ethtool",
        "iputils-ping",
        "iputils-arping",
        "tcpdump",
        "curl",
        "libpcap0.8",
        "bash-completion",
    ),
    *("procps", "less", "nano", "rsync"),
)
OURS = ("xdpdirector", "xdpdirector-backend")
"""Of what `./lab package` builds."""

EARLY_FILES: Mapping[str, str] = {  # before the packages, so that the initramfs is made once
    "etc/initramfs-tools/conf.d/install-cd": "MODULES=most\nCOMPRESS=zstd\n",
}
FILES: Mapping[str, str] = {
    "etc/hostname": "xdpdirector\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/default/grub": (
        "GRUB_DEFAULT=0\nGRUB_TIMEOUT=3\nGRUB_DISTRIBUTOR=Debian\n"
        'GRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX="console=ttyS0,115200 console=tty0"\n'
        'GRUB_TERMINAL="console serial"\nGRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"\n'
        "GRUB_DISABLE_OS_PROBER=true\n"
    ),
    "etc/apt/sources.list": (
        "deb http://deb.debian.org/debian bookworm main\n"
        "deb http://deb.debian.org/debian bookworm-updates main\n"
        "deb http://security.debian.org/debian-security bookworm-security main\n"
    ),
    "etc/ssh/sshd_config.d/xdpdirector.conf": "PermitRootLogin prohibit-password\n",
}
ENABLED = ("systemd-networkd", "systemd-resolved", "systemd-timesyncd", "ssh", "serial-getty@ttyS0")
DISABLED = ("nginx", "keepalived", "xdpdirector-backend")
"""A role enables them."""
VOLATILE = (
    *("var/lib/apt/lists/*", "var/cache/apt/*", "var/cache/xdpdirector/*", "var/cache/ldconfig/*"),
    *("var/log/*.log", "var/log/apt/*", "var/log/journal", "var/cache/debconf/*-old", "var/lib/dpkg/*-old"),
    *("etc/ssh/ssh_host_*", "var/lib/systemd/random-seed", "var/lib/dbus/machine-id", "tmp/*", "run/*"),
    *("etc/*-", "root/.cache", "var/lib/systemd/catalog/database"),
)
"""What each machine makes for itself, and what is another one in each building. What is in the cache of compiled
programs then was compiled for the kernel of the machine that builds; see `Root.finish`."""
