# SPDX-License-Identifier: Apache-2.0
"""The rooms of the house: who may import whom, where the special modules may be.

Imports go to the same level or a lower one, and never in a circle.
"""

import ast
import functools
import itertools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGE = "xdpdirector"

# From the bottom up. A name stands for the module and all below it; None for all modules that are not named.
LEVELS: list[set[str | None]] = [
    {"", "errors", "paths", "bpf", "durations", "harmless", "listener", "patterns"},
    {"fields", "accessspec", "checkspec", "guardspec", "labels", "lanspec", "lvsspec", "model", "views"},
    {"maglev", "health"},
    {None},
    {"director"},
    {"api"},
    {"daemon"},
    {"lvs"},
    {"lab", "cli", "__main__", "pytest_plugin"},
]

# Who alone may import it.
RESERVED = {
    "bcc": {"loader"},
    "fastapi": {"api"},
    "sqlite3": {"database", "lab.chaos.storage"},
    "ctypes": {"confined", "heap", "libbpf", "namespace", "replay.libpcap", "shapes", "tables", "loader"},
    "numpy": {
        "carrying",
        "clients",
        "connections",
        "counters",
        "explainer",
        "fronts",
        "guarding",
        "maglev",
        "mentions",
        "records",
        "secondary_map",
        "senders",
        "replay",
        "schedule",
        "rings",
        "sweep",
        "tables",
        "dataplane",
        "decisions",
        "shortcuts",
        "vipmarks",
    },
}


def python_files() -> list[Path]:
    return sorted(
        itertools.chain(*((CHECKOUT / root).rglob("*.py") for root in (PACKAGE, "api", "bpf", "tests")))
    )


def source_files() -> list[Path]:
    folders = (CHECKOUT / ".ci", CHECKOUT / "tools")
    scripts = [
        CHECKOUT / "lab",
        *(path for folder in folders for path in sorted(folder.iterdir()) if path.is_file()),
    ]
    return [*python_files(), *sorted((CHECKOUT / "bpf").glob("*.[ch]")), *scripts]


def module_of(path: Path) -> str:
    """Its name below the package: `cli.client`; the package itself is the empty name."""
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    parts = parts[1:] if parts[0] == PACKAGE else parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in python_files() if "tests" not in path.parts}


@functools.cache
def imports(path: Path) -> frozenset[str]:
    """Absolute names of what is imported anywhere in the file: modules, and names that may be modules."""
    return frozenset(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    name = f"{PACKAGE}.{module_of(path)}".rstrip(".").split(".")
    package = name if path.name == "__init__.py" else name[:-1]
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = ".".join([*base, node.module] if node.module else base)
            yield from (f"{start}.{alias.name}" for alias in node.names)


def imported(module: str) -> set[str]:
    """The modules of the package that this one imports; a name from a module counts as that module."""
    found = set()
    for name in imports(MODULES[module]):
        top, _, inside = name.partition(".")
        if top == PACKAGE:
            while inside not in MODULES:
                inside = inside.rpartition(".")[0]
            found.add(inside)
    return found - {module}


def level(module: str) -> int:
    top = module.split(".")[0]
    name = top if any(top in names for names in LEVELS) else None
    return next(number for number, names in enumerate(LEVELS) if name in names)


def allowed(module: str, rooms: set[str]) -> bool:
    return module.split(".")[0] in rooms or module in rooms


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downward(module: str) -> None:
    upward = {other for other in imported(module) if level(other) > level(module)}

    assert upward == set(), f"{module or PACKAGE} is below what it imports"


def test_imports_make_no_circle() -> None:
    graph = {module: imported(module) for module in MODULES}

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(name or PACKAGE for name in error.args[1]))


@pytest.mark.parametrize("library", RESERVED)
def test_special_libraries_stay_in_their_rooms(library: str) -> None:
    users = {
        module
        for module, path in MODULES.items()
        if any(name.split(".")[0] == library for name in imports(path))
    }

    assert {user for user in users if not allowed(user, RESERVED[library])} == set()


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_source_names_its_licence(path: Path) -> None:
    licence = "GPL-2.0-only" if path.parent == CHECKOUT / "bpf" else "Apache-2.0"
    first = next(line for line in path.read_text().splitlines() if not line.startswith("#!"))

    assert f"SPDX-License-Identifier: {licence}" in first
