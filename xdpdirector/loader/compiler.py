# SPDX-License-Identifier: Apache-2.0
"""Compiles the packet program, creates and pins maps and program, and writes layout.json.

BCC loads LLVM, so this runs in a child process (`prepare_in_child`); importing this module is cheap. Knows
nothing of services or interfaces. A failure leaves the running program unchanged.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from xdpdirector import libbpf
from xdpdirector.errors import ConflictError, DirectorError, LoaderError
from xdpdirector.loader import (
    bcc_module,
    bpffs,
    compile_cache,
    kernel_headers,
    layout,
    source,
)
from xdpdirector.loader.bcc_module import ENTRY
from xdpdirector.loader.build import Build, current, differences, running
from xdpdirector.loader.compile_cache import Compiled
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths

__all__ = ["current", "ensure", "ensure_explaining", "prepare", "prepare_explaining", "prepare_in_child"]


def prepare(
    paths: InstancePaths, sizes: Sizes, program: Path | None = None, *, has_frags: bool = False
) -> Loaded:
    """Compile and load in this process; maps that are pinned already are compared and adopted. `has_frags`: the
    program takes frames in several buffers.

    Afterwards `<pins>/program` is the new program; nothing is attached. BccMissingError, NotAllowedError, or
    LoaderError with file and line.
    """
    bpffs.require_kernel()
    bpffs.require_privileges()
    build = Build(paths, sizes, program or source.program(), has_frags=has_frags)
    bcc, compiled = _compiler(build)
    with bpffs.locked(paths):
        bpffs.ensure_mounted()
        bpffs.require_privileges(adopting=build.pins.is_dir())
        with _removed_on_failure(build.pins):
            bpffs.make_directory(build.pins)
            with _loaded(bcc, compiled, build) as (version, maps, functions):
                return _install(build, version, maps, functions)


def prepare_explaining(paths: InstancePaths, sizes: Sizes, program: Path | None = None) -> Path:
    """Compile and load the explaining program for the prepared one; returns where it is pinned.

    Raises as `prepare`, and ConflictError if the source differs from what is loaded.
    """
    bpffs.require_privileges()
    loaded = current(paths, sizes, program)
    if loaded is None:
        raise _other_program()
    build = Build(paths, sizes, program or source.program(), explains=True, has_frags=loaded.has_frags)
    bcc, compiled = _compiler(build)
    with bpffs.locked(paths):
        if current(paths, sizes, program) != loaded:
            raise _other_program()
        with (
            _loaded(bcc, compiled, build) as (_, _, functions),
            bpffs.translated("pinning the program that explains"),
        ):
            _link(build, functions, source.enums(build.text).get("stage", {}))
            for stale in paths.pins.glob(f"{bpffs.EXPLAINING}*"):
                stale.unlink()
            pin = _explaining(paths, loaded)
            bpffs.pin_program(paths, functions[ENTRY], pin.name)
        return pin


def _other_program() -> ConflictError:
    """As after an upgrade of the package, until the daemon is restarted."""
    return ConflictError(
        "what is loaded is not the installed program of these sizes, so nothing can explain it: restart the "
        "daemon, which takes the installed one, or run `xdpdirector load`"
    )


def _explaining(paths: InstancePaths, loaded: Loaded) -> Path:
    return paths.pins / f"{bpffs.EXPLAINING}{loaded.program_digest[:12]}"


def prepare_in_child(
    paths: InstancePaths, sizes: Sizes, program: Path | None = None, *, has_frags: bool = False
) -> Loaded:
    """`prepare` in a child process; raises the same errors. Blocks for one or two seconds."""
    return Loaded.from_document(_in_child("prepare", paths, sizes, program, has_frags))


def _in_child(
    verb: str, paths: InstancePaths, sizes: Sizes, program: Path | None, has_frags: bool = False
) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, verb]
    command += ["--instance", paths.name, "--sizes", sizes.model_dump_json()]
    command += ["--program", str(program)] if program else []
    command += ["--has-frags"] if has_frags else []
    search = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": search, "PYTHONSAFEPATH": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        document = json.loads(child.stdout)
    except ValueError:
        tail = " / ".join(child.stderr.strip().splitlines()[-3:])
        raise LoaderError(
            f"the loader's process ended with status {child.returncode} and no answer: {tail}"
        ) from None
    if "error" in document:
        raise error_class(document["error"]["slug"])(document["error"]["detail"])
    return dict(document)


def ensure(
    paths: InstancePaths, sizes: Sizes, program: Path | None = None, *, has_frags: bool = False
) -> Loaded:
    """What is loaded if it is up to date, else prepare it in a child."""
    found = current(paths, sizes, program)
    if found is not None and found.has_frags == has_frags:
        return found
    return prepare_in_child(paths, sizes, program, has_frags=has_frags)


def ensure_explaining(paths: InstancePaths, loaded: Loaded, program: Path | None = None) -> Path:
    """Where the explaining program for the loaded one is pinned; prepares it in a child if there is none.

    ConflictError when another program is installed or has been loaded since: what it says is not true of this one.
    """
    pin = _explaining(paths, loaded)
    if pin.exists():
        return pin
    now = current(paths, loaded.sizes, program)
    if now is None or now.program_digest != loaded.program_digest:
        raise _other_program()
    if Path(_in_child("explain", paths, loaded.sizes, program)["pin"]) != pin:
        raise _other_program()
    return pin


def error_class(slug: str) -> type[DirectorError]:
    """The error class that a child reports by this slug."""

    def family(parent: type[DirectorError]) -> Iterator[type[DirectorError]]:
        yield parent
        for child in parent.__subclasses__():
            yield from family(child)

    return next((found for found in family(DirectorError) if found.slug == slug), LoaderError)


def _compiler(build: Build) -> tuple[Any, Compiled | None]:
    """BCC, or the cached compilation."""
    compiled = compile_cache.find(build)
    return (None, compiled) if compiled else (bcc_module.find(), None)


@contextmanager
def _loaded(
    bcc: Any, compiled: Compiled | None, build: Build
) -> Iterator[tuple[str, dict[str, Any], dict[str, int]]]:
    """BCC's version, the maps for layout.json, and descriptors of the functions, valid within the block."""
    with ExitStack() as stack:
        load: Callable[[str, bytes], int] = partial(libbpf.xdp_prog_load, has_frags=build.has_frags)
        found = compiled
        if compiled is None:
            tree = stack.enter_context(kernel_headers.tree())
            module = bcc_module.Module(bcc, build, tree)
            compiled, load = module.compiled(), module.load
            _check_maps(compiled.maps, build.pins)  # BCC adopts any map that it finds pinned
        stack.enter_context(bpffs.translated("loading the program"))
        functions = stack.enter_context(compiled.loaded(build.pins, load))
        _check_maps(compiled.maps, build.pins)
        if found is None:
            compile_cache.keep(build, compiled)
        yield compiled.bcc, compiled.maps, functions


def _install(build: Build, bcc: str, maps: dict[str, Any], functions: dict[str, int]) -> Loaded:
    """Install the program last, once everything else succeeded; maps are pinned already."""
    enums = source.enums(build.text)
    with bpffs.translated("linking the program's stages"):
        stages = _link(build, functions, enums.get("stage", {}))
    with bpffs.translated("pinning the program"):
        for name, fd in functions.items():
            if name not in stages:
                bpffs.pin_program(build.paths, fd, bpffs.PROGRAM if name == ENTRY else name)
        loaded = Loaded(
            program_digest=build.program_digest,
            layout_digest=build.layout_digest,
            program=build.paths.pins / bpffs.PROGRAM,
            program_id=libbpf.prog_info(functions[ENTRY]).id,
            pins=build.pins,
            sizes=build.sizes,
            maps=maps,
            enums=enums,
            bcc=bcc,
            has_frags=build.has_frags,
        )
        before = running(build.paths)
        if before and before.pins != loaded.pins and before.pins.is_dir():
            layout.keep(build.paths, before)
        layout.write(build.paths, loaded)
    return loaded


def _link(build: Build, functions: dict[str, int], stages: dict[str, int]) -> set[str]:
    """Put the stages into the map `stages`, and return their functions. The running program's stages stay."""
    linked = {
        name.lower(): build.stages_at + number for name, number in stages.items() if name.lower() in functions
    }
    for function, place in linked.items():
        with libbpf.opened(build.pins / "stages") as fd:
            libbpf.update(
                fd, place.to_bytes(4, sys.byteorder), functions[function].to_bytes(4, sys.byteorder)
            )
    return set(linked)


@contextmanager
def _removed_on_failure(directory: Path) -> Iterator[None]:
    """Remove a new directory if the block fails: an incomplete set of maps is useless."""
    existed = directory.is_dir()
    try:
        yield
    except BaseException:
        if not existed:
            bpffs.remove_tree(directory)
        raise


# Maps


def _check_maps(maps: dict[str, Any], pins: Path) -> None:
    """LoaderError if a pinned map differs from the source."""
    for name, declared in sorted(maps.items()):
        _check(pins / name, declared)


def _check(pin: Path, declared: dict[str, Any]) -> None:
    """Whoever takes another map for it would write beyond its values."""
    sizes = (declared["key_size"], declared["value_size"])
    if any(sizes) and sizes != (declared["key"]["size"], declared["value"]["size"]):  # a ring buffer has none
        raise LoaderError(
            f"map {pin.name}: BCC's description of its key or value has not the size that C gives it"
        )
    try:
        with libbpf.opened(pin) as fd:
            differing = differences(libbpf.map_info(fd), declared)
    except FileNotFoundError as error:
        raise LoaderError(
            f'map {pin.name} is not pinned: declare it with a pin, PIN_DIR "{pin.name}"'
        ) from error
    if differing:
        raise LoaderError(
            f"the map pinned at {pin} is not the one that the program declares ({differing}): "
            "somebody changed it. Remove what is loaded with `xdpdirector unload`, then load again"
        )


def main() -> int:
    """`python -m xdpdirector.loader.compiler VERB`: prints one JSON document: the layout, the pin, or the
    error."""
    import argparse  # needed in the child only

    parser = argparse.ArgumentParser(prog="python -m xdpdirector.loader.compiler", description=main.__doc__)
    parser.add_argument("verb", choices=["prepare", "explain"])
    parser.add_argument("--instance", default=InstancePaths().name)
    parser.add_argument(
        "--sizes", default="{}", type=Sizes.model_validate_json, help="entries of the maps, as JSON"
    )
    parser.add_argument("--program", type=Path, help="another director.c than the installed one")
    parser.add_argument("--has-frags", action="store_true", help="for frames in several buffers")
    arguments = parser.parse_args()
    try:
        made = (InstancePaths(arguments.instance), arguments.sizes, arguments.program)
        explains = arguments.verb == "explain"
        document = (
            {"pin": str(prepare_explaining(*made))}
            if explains
            else prepare(*made, has_frags=arguments.has_frags).document()
        )
    except DirectorError as error:
        print(json.dumps({"error": {"slug": error.slug, "detail": error.detail}}))
        return 1
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
