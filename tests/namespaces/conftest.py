# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests in namespaces. A lab has a name of its own and goes when its module has ended."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from xdpdirector.lab import Lab


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that needs root says so when it has none."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: network namespaces and BPF"))


@pytest.fixture(scope="module")
def lab_factory(request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """Labs for one test module: `lab_factory(backends=2)`. Fixed names: the next run clears a killed one."""
    module = request.path.stem.removeprefix("test_").replace("-", "_")[:16]
    with ExitStack() as stack:
        made: list[Lab] = []

        def make(*, backends: int = 3, two_arm: bool = False) -> Lab:
            lab = Lab(f"t_{module}_{len(made)}", backends=backends, two_arm=two_arm)
            made.append(lab)
            return stack.enter_context(lab)

        yield make


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    """A lab of three backends with nginx on each, and no director."""
    lab = lab_factory()
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=16)
    return lab
