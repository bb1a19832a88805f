# SPDX-License-Identifier: Apache-2.0
"""These tests run in the guest of `./lab vm`, and only there: pyproject.toml keeps them from an ordinary run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.support.slowness import CHECK, PATIENCE
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector


@pytest.fixture(scope="module")
def configuration(lab: Lab) -> Mapping[str, object]:
    return web_configuration(lab.topology.backend_nodes, check=CHECK)


@pytest.fixture(scope="module")
def director(lab: Lab, configuration: Mapping[str, object]) -> Iterator[LabDirector]:
    """A director of the module's `lab`, natively attached, whose backends all serve."""
    for host in lab.backends:
        lab.nginx(host.name)
    director = lab.director({**configuration, "mode": "native"}, timeout=PATIENCE)
    director.wait_serving(PATIENCE)
    yield director
    director.stop(PATIENCE)
