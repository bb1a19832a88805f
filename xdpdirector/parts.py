# SPDX-License-Identifier: Apache-2.0
"""Imports parts of a package without all of it.

A package's own `__init__` may load everything that it has. pyroute2's does: 7 MB and a tenth of a second, of which
the daemon needs a quarter. Knows nothing of what is imported.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec


def only_parts_of(package: str) -> None:
    """From now on this process imports parts of the package as if its `__init__` were empty. Of a package that is
    loaded already, or is not there, nothing changes."""
    found = PathFinder.find_spec(package)
    if package in sys.modules or found is None or found.submodule_search_locations is None:
        return
    empty = ModuleSpec(package, loader=None, is_package=True)
    empty.submodule_search_locations = found.submodule_search_locations
    sys.modules[package] = module_from_spec(empty)
