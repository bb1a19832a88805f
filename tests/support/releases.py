# SPDX-License-Identifier: Apache-2.0
"""Other releases of the packet program, as far as an upgrade notices them."""

import shutil
import sys
from pathlib import Path

from xdpdirector.lab.director import LabDirector
from xdpdirector.loader import source

_REPLACE = """
import sys
from pathlib import Path
from xdpdirector.config import config_file
from xdpdirector.loader import attachment, compiler
from xdpdirector.paths import InstancePaths
paths, program, wanted = InstancePaths(sys.argv[1]), Path(sys.argv[2]), config_file.load(Path(sys.argv[3]))
compiler.prepare_in_child(paths, wanted.sizes, program)
attachment.attach(paths, wanted.interfaces)
"""


def another_program(directory: Path) -> Path:
    """One with another text over the same maps."""
    program = Path(shutil.copytree(source.program().parent, directory / "bpf")) / source.program().name
    program.write_text(f"#define NEXT_RELEASE\n{program.read_text()}")
    return program


def replace(director: LabDirector, program: Path) -> None:
    """That program takes the place of the one that runs, as `load` of its release does it."""
    arguments = [director.paths.name, str(program), str(director.configuration)]
    director.host.run(sys.executable, "-c", _REPLACE, *arguments)
