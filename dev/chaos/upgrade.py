# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.chaos.upgrade INSTANCE DIRECTORY CONFIGURATION`: an upgrade of the data plane.

Another release of the packet program takes the place of the one that runs, over the same maps, as `xdpdirector
load` of that release does it.

The release is made in DIRECTORY: the same program with another text.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from xdpdirector.config import config_file
from xdpdirector.loader import attachment, compiler, ownership, source
from xdpdirector.paths import InstancePaths
from xdpdirector.system.privileges import Account


def another_program(directory: Path) -> Path:
    """One with another text over the same maps."""
    present = source.program()
    program = Path(shutil.copytree(present.parent, directory / "bpf", dirs_exist_ok=True)) / present.name
    program.write_text(f"#define NEXT_RELEASE\n{present.read_text()}")
    return program


def main(instance: str, directory: str, configuration: str) -> int:
    paths, wanted = InstancePaths(instance), config_file.load(Path(configuration))
    compiler.prepare_in_child(paths, wanted.sizes, another_program(Path(directory)))
    attachment.attach(paths, wanted.interfaces)
    ownership.hand_over(paths, Account.of(wanted.user))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
