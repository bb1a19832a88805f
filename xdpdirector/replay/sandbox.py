# SPDX-License-Identifier: Apache-2.0
"""A copy of the packet program and its maps that nobody else sees, and that nothing is left of.

A child loads it as the loader does, but in a mount namespace of its own, with a bpffs and a /run of its own: pins
are there only. Who opens them by way of the child needs neither once they are open. Knows nothing of captures.

A process that may load and not mount, as in a container with few capabilities, needs a bpffs that somebody else has
mounted. The copy is an instance of its own there, with a name of its own, which the child removes at its end.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from xdpdirector.errors import DirectorError, LoaderError, NotAllowedError
from xdpdirector.loader import bpffs, compile_cache, compiler, source
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Sizes
from xdpdirector.paths import BPFFS, InstancePaths
from xdpdirector.system import privileges, procfs

PROGRAM = "replay.c"
PATHS = InstancePaths("replay")
_OWN = (("bpf", str(BPFFS)), ("tmpfs", "/run"))


@contextmanager
def loading(
    sizes: Sequence[Sizes], program: str = PROGRAM, *, keeps: bool = True, explains: bool = False
) -> Iterator[list[Loaded]]:
    """One copy for each of these, compiled at the same time; their pins can be opened while the block lasts.

    `program`: which one of those that are installed. `keeps`: what was compiled is kept for later loads.
    `explains`: the explaining program is loaded, too. NotAllowedError without root's capabilities; LoaderError.
    """
    bpffs.require_privileges()
    children = [_start(each, program, keeps=keeps, explains=explains) for each in sizes]
    try:
        yield [_loaded(child) for child in children]
    finally:
        for child in children:
            child.communicate()


def _start(sizes: Sizes, program: str, *, keeps: bool, explains: bool) -> subprocess.Popen[str]:
    apart = ["unshare", "--mount", "--propagation", "private"] if privileges.may_mount() else []
    command = [*apart, sys.executable, "-m", __spec__.name]
    search = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        return subprocess.Popen(
            [*command, sizes.model_dump_json(), program, *(["explain"] if explains else [])],
            env=({} if keeps else {compile_cache.VARIABLE: ""})
            | os.environ
            | {"PYTHONPATH": search, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except OSError as error:
        raise LoaderError(f"the command unshare cannot be run ({error}): install util-linux") from error


def _loaded(child: subprocess.Popen[str]) -> Loaded:
    """What the child has loaded, with its pins as they are seen from here."""
    line = _pipe(child.stdout).readline()
    if not line:
        said = " / ".join(_pipe(child.stderr).read().strip().splitlines()[-3:])
        raise LoaderError(f"the loader's process ended without an answer: {said}")
    document: dict[str, Any] = json.loads(line)
    if "error" in document:
        raise compiler.error_class(document["error"]["slug"])(document["error"]["detail"])
    loaded = Loaded.from_document(document)
    root = procfs.directory(child.pid) / "root"
    return replace(loaded, pins=_below(root, loaded.pins), program=_below(root, loaded.program))


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def main() -> int:
    """The child: loads, says so, and stays until nobody needs it any more."""
    try:
        with _place() as paths:
            sizes, program = Sizes.model_validate_json(sys.argv[1]), source.program().with_name(sys.argv[2])
            loaded = compiler.prepare(paths, sizes, program)
            if sys.argv[3:] == ["explain"]:
                compiler.prepare_explaining(paths, sizes, program)
            print(json.dumps(loaded.document()), flush=True)
            sys.stdin.read()
    except DirectorError as error:
        print(json.dumps({"error": {"slug": error.slug, "detail": error.detail}}), flush=True)
        return 1
    return 0


@contextmanager
def _place() -> Iterator[InstancePaths]:
    """Where pins and files may be. SIGTERM and Ctrl-C leave nothing there, either: what ends this process is the
    end of its standard input."""
    if privileges.may_mount():
        for kind, place in _OWN:
            _mount(kind, place)
        yield PATHS
        return
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    if not bpffs.is_mounted():
        raise NotAllowedError(
            f"mount a bpffs on {BPFFS}, as a volume of the container, or give CAP_SYS_ADMIN: none is there, and "
            "this process may not mount one"
        )
    paths = InstancePaths(f"{PATHS.name}-{secrets.token_hex(4)}")  # others may use this bpffs
    try:
        yield paths
    finally:
        bpffs.remove_tree(paths.pins)
        for directory in (paths.run, paths.layouts):
            shutil.rmtree(directory, ignore_errors=True)


def _mount(kind: str, place: str) -> None:
    done = subprocess.run(["mount", "-t", kind, kind, place], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoaderError(
            f"a {kind} of its own on {place} cannot be mounted, and this command needs one so as to leave "
            f"that of the machine alone: {done.stderr.strip()}"
        )


if __name__ == "__main__":
    sys.exit(main())
