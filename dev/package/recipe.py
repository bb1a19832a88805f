# SPDX-License-Identifier: Apache-2.0
"""The machine that the packages are tried on: a plain Debian with what they depend on, as it has no network to
fetch that. Values only."""

from __future__ import annotations

from dev.vm import recipe
from dev.vm.recipe import Recipe
from xdpdirector.lab.topology import Topology

CARDS = Topology("package", backends=2)
"""All its hosts are in one machine: the director is the machine, the others are namespaces with a card each."""
DIRECTOR_CARD = "eth1"
BASE = ("systemd-sysv", "dbus", "udev", "kmod", "linux-image-amd64", "initramfs-tools", "openssh-server")
DEPENDS = ("python3-bpfcc", "linux-libc-dev", "libbpf1", "python3-numpy", "python3-rich", "iproute2")
TOOLS = ("curl", "procps")


def machine() -> Recipe:
    """Its second card is the director's."""
    address = CARDS.node("director").interface4()
    network = f"[Match]\nName={DIRECTOR_CARD}\n[Network]\nAddress={address}\nIPv6AcceptRA=no\n"
    return Recipe(
        requirements=(),
        packages=(*BASE, *DEPENDS, *TOOLS),
        files={**recipe.FILES, "etc/systemd/network/director.network": network},
        disabled=tuple(name for name in recipe.DISABLED if name not in ("nginx", "ipvsadm")),
    )
