# SPDX-License-Identifier: Apache-2.0
"""Compiles the packet program, creates and pins maps and program, and writes layout.json. The only user of
bcc.

BCC loads LLVM, so this runs in a child process (`prepare_in_child`); importing this module is cheap. Knows
nothing of services or interfaces. A failure leaves the running program unchanged.
"""

from __future__ import annotations

import ctypes as ct
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xdpdirector import libbpf
from xdpdirector.errors import BccMissingError, ConflictError, DirectorError, LoaderError
from xdpdirector.loader import (
    bpffs,
    compile_cache,
    compile_errors,
    kernel_headers,
    layout,
    source,
    struct_layout,
)
from xdpdirector.loader.build import Build, current, differences, running
from xdpdirector.loader.compile_cache import Compiled
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths

__all__ = ["current", "ensure", "ensure_explaining", "prepare", "prepare_explaining", "prepare_in_child"]

ENTRY = "director"
DEBUG_SOURCE = 8  # makes BCC print a disassembly

_ADVICE = "install it with `apt install python3-bpfcc`"


def prepare(paths: InstancePaths, sizes: Sizes, program: Path | None = None) -> Loaded:
    """Compile and load in this process; maps that are pinned already are compared and adopted.

    Afterwards `<pins>/program` is the new program; nothing is attached. BccMissingError, NotAllowedError, or
    LoaderError with file and line.
    """
    bpffs.require_kernel()
    bpffs.require_privileges()
    build = Build(paths, sizes, program or source.program())
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
    build = Build(paths, sizes, program or source.program(), explains=True)
    bcc, compiled = _compiler(build)
    with bpffs.locked(paths):
        loaded = current(paths, sizes, program)
        if loaded is None:
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


def prepare_in_child(paths: InstancePaths, sizes: Sizes, program: Path | None = None) -> Loaded:
    """`prepare` in a child process; raises the same errors. Blocks for one or two seconds."""
    return Loaded.from_document(_in_child("prepare", paths, sizes, program))


def _in_child(verb: str, paths: InstancePaths, sizes: Sizes, program: Path | None) -> dict[str, Any]:
    command = [sys.executable, "-m", __spec__.name, verb]
    command += ["--instance", paths.name, "--sizes", sizes.model_dump_json()]
    command += ["--program", str(program)] if program else []
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


def ensure(paths: InstancePaths, sizes: Sizes, program: Path | None = None) -> Loaded:
    """What is loaded if it is up to date, else prepare it in a child."""
    return current(paths, sizes, program) or prepare_in_child(paths, sizes, program)


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


# bcc


def _bcc() -> Any:
    """The module bcc, or BccMissingError with instructions."""
    spec = importlib.util.find_spec("bcc")
    if spec is None:
        raise BccMissingError(
            f"the Python package bcc (BPF Compiler Collection) is missing for {sys.executable}: {_ADVICE}; a "
            "virtual environment must be made with `/usr/bin/python3 -m venv --system-site-packages`"
        )
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    if not any((place / "libbcc.py").is_file() for place in places):
        raise BccMissingError(
            f"the package bcc in {', '.join(map(str, places)) or spec.origin} is not the BPF Compiler "
            f"Collection but an unrelated one from PyPI: run `{sys.executable} -m pip uninstall bcc`, and {_ADVICE}"
        )
    try:
        import bcc
    except (ImportError, OSError) as error:
        raise BccMissingError(f"the package bcc cannot be used ({error}): {_ADVICE}") from error
    return bcc


def _compiler(build: Build) -> tuple[Any, Compiled | None]:
    """BCC, or the cached compilation."""
    compiled = compile_cache.find(build)
    return (None, compiled) if compiled else (_bcc(), None)


@contextmanager
def _loaded(
    bcc: Any, compiled: Compiled | None, build: Build
) -> Iterator[tuple[str, dict[str, Any], dict[str, int]]]:
    """BCC's version, the maps for layout.json, and descriptors of the functions, valid within the block."""
    if compiled:
        with bpffs.translated("loading the program"), compiled.loaded(build.pins) as functions:
            _check_maps(compiled.maps, build.pins)
            yield compiled.bcc, compiled.maps, functions
        return
    with kernel_headers.tree() as tree:
        module, functions = _compile(bcc, build, tree)  # `module` keeps the functions loaded
    maps = _maps(bcc, module)
    _check_maps(maps, build.pins)
    compile_cache.keep(
        build,
        str(bcc.__version__),
        maps,
        {name: bcc.lib.bpf_table_fd(module.module, name.encode()) for name in maps},
        {name: module.dump_func(name.encode()) for name in functions},
    )
    yield str(bcc.__version__), maps, functions
    del module


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


def _compile(bcc: Any, build: Build, tree: Path) -> tuple[Any, dict[str, int]]:
    """BCC's module, and descriptors of the loaded programs by function, valid as long as the module."""
    with tempfile.TemporaryFile() as log:
        try:
            with _environment("BCC_KERNEL_SOURCE", str(tree)), _stderr_into(log.fileno()):
                text = source.pinpointed(build.text, build.path.parent)
                module = bcc.BPF(text=text, cflags=build.flags)
                count = bcc.lib.bpf_num_functions(module.module)
                names = [bcc.lib.bpf_function_name(module.module, number) for number in range(count)]
                functions = {name.decode(): module.load_func(name, bcc.BPF.XDP).fd for name in names}
        except Exception as error:  # BCC raises nothing more precise
            log.seek(0)
            said = log.read().decode(errors="replace")
            place = _place(bcc, build, tree, compile_errors.stopped_at(str(error), said))
            raise compile_errors.explained(str(error), said, build.path.parent, place) from error
    if ENTRY not in functions:
        raise LoaderError(f"{build.path} has no function '{ENTRY}', only: {', '.join(functions) or 'none'}")
    return module, functions


def _place(bcc: Any, build: Build, tree: Path, stop: tuple[str, int] | None) -> str:
    """File and line of an instruction, from another compilation; None on failure, so that the original error
    is kept."""
    if not stop:
        return ""
    with tempfile.TemporaryFile() as log:
        with suppress(Exception), _environment("BCC_KERNEL_SOURCE", str(tree)), _stderr_into(log.fileno()):
            bcc.BPF(text=source.numbered(build.text), cflags=build.flags, debug=DEBUG_SOURCE)
        log.seek(0)
        index = compile_errors.source_line(log.read().decode(errors="replace"), *stop)
    if index is None:
        return ""
    line = source.lines(build.text)[index]
    return f"{line.name}:{line.number}"


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        os.environ.update({name: before} if before is not None else {})


@contextmanager
def _stderr_into(fd: int) -> Iterator[None]:
    """Redirect stderr, where LLVM and libbcc print errors."""
    sys.stderr.flush()
    before = os.dup(2)
    os.dup2(fd, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


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


def _maps(bcc: Any, module: Any) -> dict[str, Any]:
    """All maps for layout.json."""
    lib, handle = bcc.lib, module.module
    lib.bpf_table_name.restype, lib.bpf_table_name.argtypes = ct.c_char_p, (ct.c_void_p, ct.c_size_t)
    lib.bpf_table_key_size_id.argtypes = lib.bpf_table_leaf_size_id.argtypes = (ct.c_void_p, ct.c_size_t)
    lib.bpf_table_key_size_id.restype = lib.bpf_table_leaf_size_id.restype = ct.c_size_t
    maps = {}
    for number in range(lib.bpf_num_tables(handle)):
        name = lib.bpf_table_name(handle, number)
        maps[name.decode()] = {
            "type": lib.bpf_table_type_id(handle, number),
            "key_size": lib.bpf_table_key_size_id(handle, number),
            "value_size": lib.bpf_table_leaf_size_id(handle, number),
            "max_entries": lib.bpf_table_max_entries_id(handle, number),
            "flags": lib.bpf_table_flags_id(handle, number),
            "key": _shape(bcc, lib.bpf_table_key_desc(handle, name)),
            "value": _shape(bcc, lib.bpf_table_leaf_desc(handle, name)),
        }
    return maps


def _check_maps(maps: dict[str, Any], pins: Path) -> None:
    """LoaderError if a pinned map differs from the source."""
    for name, declared in sorted(maps.items()):
        _check(pins / name, declared)


def _shape(bcc: Any, description: bytes) -> dict[str, Any]:
    return struct_layout.of(bcc.BPF._decode_table_type(json.loads(description)))


def _check(pin: Path, declared: dict[str, Any]) -> None:
    """BCC adopts any map that it finds pinned, and would write beyond its values."""
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
    arguments = parser.parse_args()
    try:
        made = (InstancePaths(arguments.instance), arguments.sizes, arguments.program)
        explains = arguments.verb == "explain"
        document = {"pin": str(prepare_explaining(*made))} if explains else prepare(*made).document()
    except DirectorError as error:
        print(json.dumps({"error": {"slug": error.slug, "detail": error.detail}}))
        return 1
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
