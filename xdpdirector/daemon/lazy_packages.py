# SPDX-License-Identifier: Apache-2.0
"""Imports submodules of a package without its `__init__`, and leaves optional packages out.

A package's own `__init__` may load everything that it has. pyroute2's does: 7 MB and a tenth of a second, of which
the daemon needs a quarter; uvicorn's brings a command line, prometheus_client's servers. Knows nothing of what is
imported.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec
from typing import Any


def only_parts_of(package: str, **homes: str) -> None:
    """From now on this process imports parts of the package as if its `__init__` were empty, but for the names in
    `homes`, which come from that module each. Of a package that is loaded already, or is not there, nothing
    changes."""

    def found_at_home(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"only parts of {package} are loaded, and {name} is none of them")
        return getattr(import_module(homes[name]), name)

    parent, _, name = package.rpartition(".")
    above = import_module(parent) if parent else None
    found = PathFinder.find_spec(package, above.__path__ if above else None)
    if package in sys.modules or found is None or found.submodule_search_locations is None:
        return
    empty = ModuleSpec(package, loader=None, is_package=True)
    empty.submodule_search_locations = found.submodule_search_locations
    module = sys.modules[package] = module_from_spec(empty)
    vars(module)["__getattr__"] = found_at_home
    if above:
        setattr(above, name, module)


def with_models_when_used(module: str) -> None:
    """Import the module, and what it imports first. The models of pydantic there get their validators when they are
    first used (`defer_build`)."""
    from pydantic import BaseModel

    BaseModel.model_config["defer_build"] = True
    try:
        import_module(module)
    finally:
        del BaseModel.model_config["defer_build"]


def without(package: str) -> None:
    """From now on an import of the package raises ImportError in this process, as if it were not installed. Of one
    that is loaded already nothing changes."""
    sys.modules.setdefault(package, None)  # type: ignore[arg-type]
