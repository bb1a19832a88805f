# SPDX-License-Identifier: Apache-2.0
"""Other releases of the packet program, as far as an upgrade notices them."""

import shutil
import subprocess
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


BEFORE = "83bd5f8"
"""The commit that was version 0.1.0."""


def release_before(directory: Path) -> Path:
    """The release before as a directory for PYTHONPATH. FileNotFoundError where the history is not there."""
    checkout = Path(__file__).parents[2]
    tree, package = directory / "tree", directory / "python" / "xdpdirector"
    tree.mkdir()
    with subprocess.Popen(
        ["git", "-C", str(checkout), "archive", BEFORE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as archive:
        subprocess.run(
            ["tar", "-x", "-C", str(tree)], stdin=archive.stdout, check=False, stderr=subprocess.DEVNULL
        )
    if archive.returncode:
        raise FileNotFoundError(f"the history of this checkout does not reach back to {BEFORE}")
    shutil.copytree(tree / "xdpdirector", package)
    for part in ("api", "bpf"):
        shutil.copytree(tree / part, package / part)
    return package.parent


class DirectorBefore(LabDirector):
    """A daemon of the release before."""

    def __init__(self, director: LabDirector, release: Path) -> None:
        super().__init__(director.host, director.paths)
        self._release = release

    def launch(self) -> None:
        environment = {"PYTHONPATH": str(self._release), "PYTHONSAFEPATH": "1"}
        self._child = self.host.popen(*self.command, role="director-before", environment=environment)
