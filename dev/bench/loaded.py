# SPDX-License-Identifier: Apache-2.0
"""A loaded packet program with descriptors of its functions and maps, gone again when the block ends."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.bench.map_bytes import number
from xdpdirector import libbpf
from xdpdirector.libbpf import ProgramInfo
from xdpdirector.loader import attachment, bpffs, compiler
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths


class Programs:
    """Compiled by the real loader, as an instance of its own."""

    def __init__(self, instance: str, sizes: Sizes, source: Path | None = None) -> None:
        self.paths = InstancePaths(instance)
        self.layout: Loaded = compiler.prepare_in_child(self.paths, sizes, source)
        self._fds: dict[Path, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._fds:
            os.close(self._fds.popitem()[1])
        attachment.unload(self.paths)

    def function(self, name: str = bpffs.PROGRAM) -> int:
        """The descriptor of a function of the program; of its entry if none is named."""
        return self._open(self.pin(name))

    def pin(self, name: str = bpffs.PROGRAM) -> Path:
        return self.paths.pins / name

    def map(self, name: str) -> int:
        return self._open(self.layout.pins / name)

    def parts(self) -> list[ProgramInfo]:
        """What the kernel says of the entry, and of every stage that it may go on in."""
        found = [libbpf.prog_info(self.function())]
        for place in range(self.layout.maps["stages"]["max_entries"]):
            raw = libbpf.lookup(self.map("stages"), number(place), 4)
            if raw:
                fd = libbpf.prog_fd(int.from_bytes(raw, sys.byteorder))
                found.append(libbpf.prog_info(fd))
                os.close(fd)
        return found

    def _open(self, path: Path) -> int:
        if path not in self._fds:
            self._fds[path] = libbpf.obj_get(path)
        return self._fds[path]
