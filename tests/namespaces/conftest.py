# SPDX-License-Identifier: Apache-2.0
"""Fixtures for tests in namespaces, on those of the package's own plugin for pytest."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.support.lab_director import CHECK, directing, require_open_checkout
from tests.support.veth_pair import Pair
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that needs root says so when it has none."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: network namespaces and BPF"))


@pytest.fixture(scope="module")
def lab_factory(xdp_labs: Callable[..., Lab]) -> Callable[..., Lab]:
    """Labs for one test module: `lab_factory(backends=2)`."""
    return xdp_labs


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, lab_factory: Callable[..., Lab]) -> Lab:
    """A lab of three backends, or what the module's mark `backends` says, with nginx on each, and no director."""
    wanted = request.node.get_closest_marker("backends")
    lab = lab_factory(**({"backends": wanted.args[0]} if wanted else {}))
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=16)
    return lab


@pytest.fixture(scope="module")
def director(request: pytest.FixtureRequest, lab: Lab) -> Iterator[LabDirector]:
    """One that runs, with all backends up, as the user that the module's mark `user` says."""
    configuration = dict(web_configuration(lab.topology.backend_nodes, check=CHECK))
    if user := request.node.get_closest_marker("user"):
        require_open_checkout()
        configuration["user"] = user.args[0]
    with directing(lab, configuration) as director:
        yield director


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two namespaces with a cable between them."""
    with Pair() as pair:
        yield pair
