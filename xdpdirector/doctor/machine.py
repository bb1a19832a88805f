# SPDX-License-Identifier: Apache-2.0
"""What the doctor reads of a machine: its files and its network cards. Judges nothing."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

from xdpdirector.doctor import nic
from xdpdirector.doctor.nic import Card
from xdpdirector.loader import bpffs
from xdpdirector.model import Address
from xdpdirector.net.neighbour_requests import Neighbourhood, Room, rooms
from xdpdirector.net.netlink import Requests
from xdpdirector.system import untrusted_directory


class Kernel(NamedTuple):
    """`release`: as `uname -r` has it; `version`: its first numbers."""

    release: str
    version: tuple[int, int]


class Machine(Protocol):
    """`ThisMachine` is one. What cannot be read is an OSError: FileNotFoundError, PermissionError ..."""

    def text(self, path: Path) -> str:
        """Of a file, without the white space around it."""

    def begin(self, path: Path) -> bytes:
        """The first 16 octets, in a directory of the daemon's user."""

    def foreign_text(self, path: Path) -> str:
        """As `text`, in a directory of the daemon's user."""

    def exists(self, path: Path) -> bool: ...

    def free(self, path: Path) -> int:
        """Bytes left on the file system of the path, or of its nearest parent that exists."""

    def bpffs_is_mounted(self) -> bool: ...

    def instance_of(self, program_id: int) -> str | None:
        """Which instance's packet program that is; None when it is none's, or we may not see it."""

    def package(self, name: str) -> list[Path] | None:
        """Where Python would find a package; None when it would not."""

    def cards(self) -> dict[str, Card]:
        """The network interfaces of this network namespace by name."""

    def neighbour_tables(self) -> dict[int, Room]:
        """By IP version."""

    def mtu_to(self, address: Address) -> int:
        """Of the route to the address, in bytes; 0 without a route."""

    @property
    def kernel(self) -> Kernel: ...

    @property
    def processors(self) -> int: ...


class ThisMachine:
    """The one that the doctor runs on, as far as this process may see."""

    def text(self, path: Path) -> str:
        return path.read_text(errors="replace").strip()

    def begin(self, path: Path) -> bytes:
        with untrusted_directory.opened(path) as file:
            return os.read(file, 16)

    def foreign_text(self, path: Path) -> str:
        return untrusted_directory.read(path).decode(errors="replace").strip()

    def exists(self, path: Path) -> bool:
        return path.exists()

    def free(self, path: Path) -> int:
        return shutil.disk_usage(next(each for each in (path, *path.parents) if each.exists())).free

    def bpffs_is_mounted(self) -> bool:
        return bpffs.is_mounted()

    def instance_of(self, program_id: int) -> str | None:
        return bpffs.instance_of(program_id)

    def package(self, name: str) -> list[Path] | None:
        spec = find_spec(name)
        return None if spec is None else [Path(place) for place in spec.submodule_search_locations or ()]

    def cards(self) -> dict[str, Card]:
        return nic.read_all()

    def neighbour_tables(self) -> dict[int, Room]:
        with Requests() as requests:
            return rooms(requests)

    def mtu_to(self, address: Address) -> int:
        with Requests() as requests:
            kernel = Neighbourhood(requests)
            hop = kernel.hop(address)
            link = kernel.link(hop.ifindex) if hop else None
        return (hop.mtu or (link.mtu if link else 0)) if hop else 0

    @property
    def kernel(self) -> Kernel:
        release = os.uname().release
        return Kernel(release, bpffs.kernel_version(release))

    @property
    def processors(self) -> int:
        return os.cpu_count() or 1
