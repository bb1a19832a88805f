# SPDX-License-Identifier: Apache-2.0
"""An instance, a program and cables for each test of the loader."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyroute2 import netns

from tests.support.loader_trials import DIRECTOR, SMALL, write
from xdpdirector.loader import attachment, compile_cache, compiler
from xdpdirector.loader.layout import Loaded
from xdpdirector.paths import InstancePaths


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is compiled."""
    monkeypatch.setenv(compile_cache.VARIABLE, "")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    return write(tmp_path / "bpf")


@pytest.fixture
def paths() -> Iterator[InstancePaths]:
    """An instance that is unloaded at the end; nothing of it may be left."""
    instance = InstancePaths(f"ldr-{os.getpid()}")
    try:
        yield instance
    finally:
        attachment.unload(instance)
        assert not instance.pins.exists()
        assert not instance.run.exists()


@pytest.fixture
def namespace() -> Iterator[str]:
    """The test runs in a new network namespace with the cables one0 = one1 and two0 = two1."""
    name = f"ldr-{os.getpid()}"
    netns.create(name)
    netns.pushns(name)
    try:
        ip("link", "set", "lo", "up")
        for cable in ("one", "two"):
            ip("link", "add", f"{cable}0", "type", "veth", "peer", "name", f"{cable}1")
        yield name
    finally:
        netns.popns()
        netns.remove(name)


@pytest.fixture
def prepared(paths: InstancePaths, program: Path, namespace: str) -> Loaded:
    return compiler.prepare_in_child(paths, SMALL, program)


@pytest.fixture
def prepare_another(paths: InstancePaths, program: Path) -> Callable[[], Loaded]:
    """The same maps with a new program."""

    def prepare() -> Loaded:
        write(program.parent, director=DIRECTOR.replace("+= 1", "+= 3"))
        return compiler.prepare_in_child(paths, SMALL, program)

    return prepare
