# SPDX-License-Identifier: Apache-2.0
"""Each module of the models can be the first that a process imports: none needs another to be there before it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import xdpdirector.model

MODULES = sorted(each.name for each in pkgutil.iter_modules(xdpdirector.model.__path__))


@pytest.mark.parametrize("module", MODULES)
def test_first_import(module: str) -> None:
    command = [sys.executable, "-c", f"import xdpdirector.model.{module}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", ["Configuration", "ServiceSpec", "Listener", "check_listeners", "merged"])
def test_names_of_the_package(name: str) -> None:
    command = [sys.executable, "-c", f"from xdpdirector.model import {name}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_unknown_name() -> None:
    with pytest.raises(ImportError):
        exec("from xdpdirector.model import Nothing")
