# SPDX-License-Identifier: Apache-2.0
"""Fixtures for pytest: captures through the real packet program, and labs with a director in them.

Known to pytest wherever the package is installed, so it must not know more than pytest before a fixture is used,
and covers nobody's names: all of its own begin with `xdp_`. docs/testing.md says how to use it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection

    from xdpdirector.lab import Lab
    from xdpdirector.lab.director import LabDirector
    from xdpdirector.lab.host import Host
    from xdpdirector.model import Configuration
    from xdpdirector.replay import Replay
    from xdpdirector.replay.replay import Results

MARKER = "xdpdirector"
CONFIGURATION = "xdpdirector_config"
LONGEST_NAME = 16  # of a module, in a lab's name


class Replaying(Protocol):
    """What `xdp_replay` gives. Paths are relative to the test's file; without `configuration` it is that of
    `xdp_configuration`. `down` and `macs` as `xdpdirector replay` has them. CaptureError, ConfigurationError."""

    def __call__(
        self,
        capture: Path | str,
        *,
        configuration: Configuration | Path | str | None = None,
        down: Collection[str] = (),
        macs: Collection[str] = (),
    ) -> Results: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(CONFIGURATION, "The director's configuration that captures meet.", default="director.yaml")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARKER}: needs root, for BPF and network namespaces; skipped without it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if why := missing(os.geteuid()):
        for item in items:
            if item.get_closest_marker(MARKER):
                item.add_marker(pytest.mark.skip(reason=why))


def missing(user: int) -> str:
    """What keeps this user from loading the packet program; empty when nothing does."""
    return "" if user == 0 else "needs root: BPF and network namespaces"


@pytest.fixture(scope="session")
def xdp_root() -> None:
    """Skips the test, with a reason, where the packet program cannot be loaded."""
    if why := missing(os.geteuid()):
        pytest.skip(why)


@pytest.fixture(scope="session")
def xdp_configuration(pytestconfig: pytest.Config) -> Path:
    """The director's configuration file: what pytest's own says as `xdpdirector_config`, else director.yaml."""
    base = pytestconfig.inipath.parent if pytestconfig.inipath else pytestconfig.rootpath
    return base / str(pytestconfig.getini(CONFIGURATION))


@pytest.fixture(scope="session")
def _xdp_replays(xdp_root: None) -> Iterator[Callable[[Replay, Path], Results]]:
    """Runs a capture; programs, which take seconds to compile, are kept for others with maps of the same sizes."""
    with ExitStack() as stack:
        kept: dict[Any, Replay] = {}

        def run(wanted: Replay, capture: Path) -> Results:
            sizes = wanted.configuration.sizes
            if sizes not in kept:
                kept[sizes] = stack.enter_context(wanted)
            program = kept[sizes]
            program.configuration, program.premises = wanted.configuration, wanted.premises
            return program.run(capture)

        yield run


@pytest.fixture
def xdp_replay(
    request: pytest.FixtureRequest,
    xdp_configuration: Path,
    _xdp_replays: Callable[[Replay, Path], Results],
) -> Replaying:
    """What the director would do with a capture: `xdp_replay("captures/web.pcap").summary.verdicts`."""
    from xdpdirector.replay import Replay

    def replay(
        capture: Path | str,
        *,
        configuration: Configuration | Path | str | None = None,
        down: Collection[str] = (),
        macs: Collection[str] = (),
    ) -> Results:
        chosen = configuration or xdp_configuration
        if isinstance(chosen, str):
            chosen = request.path.parent / chosen
        return _xdp_replays(Replay(chosen, down=down, macs=macs), request.path.parent / capture)

    return replay


@pytest.fixture(scope="module")
def xdp_labs(request: pytest.FixtureRequest, xdp_root: None) -> Iterator[Callable[..., Lab]]:
    """Labs of this module, until it ends: `xdp_labs(backends=2)`. The next run clears what a killed one left."""
    from xdpdirector.lab import Lab

    module = re.sub("[^a-z0-9_]", "_", request.path.stem.removeprefix("test_").lower())[:LONGEST_NAME]
    with ExitStack() as stack:
        made: list[Lab] = []

        def make(
            *, backends: int = 3, two_arm: bool = False, directors: int = 1, router: bool = False
        ) -> Lab:
            name = f"t_{module}_{len(made)}"
            lab = Lab(
                name,
                backends=backends,
                two_arm=two_arm,
                directors=directors,
                router=router,
                numbered=True,
            )
            made.append(lab)
            return stack.enter_context(lab)

        yield make


@pytest.fixture(scope="module")
def xdp_lab(xdp_labs: Callable[..., Lab]) -> Lab:
    """A lab of three backends with nginx on each, and no director yet."""
    lab = xdp_labs()
    for host in lab.backends:
        lab.nginx(host.name)
    return lab


@pytest.fixture(scope="module")
def xdp_lab_configuration(xdp_lab: Lab) -> Mapping[str, Any]:
    """The configuration of the lab's director, as a document: one web service. Define your own to have another."""
    from xdpdirector.lab.configuration import web_configuration

    return web_configuration(xdp_lab.topology.backend_nodes)


@pytest.fixture(scope="module")
def xdp_director(xdp_lab: Lab, xdp_lab_configuration: Mapping[str, Any]) -> Iterator[LabDirector]:
    """The lab's director, ready, with all its backends in service. It ends with the module."""
    director = xdp_lab.director(xdp_lab_configuration)
    director.wait_serving()
    yield director
    director.stop()


@pytest.fixture(scope="module")
def xdp_client(xdp_director: LabDirector, xdp_lab: Lab) -> Host:
    """The lab's client, before whom the director is: `xdp_client.run("curl", "-s",
    "http://192.0.2.10/who").stdout`."""
    return xdp_lab.client


@pytest.fixture(scope="module")
def xdp_backends(xdp_lab: Lab) -> list[Host]:
    """The lab's backends."""
    return xdp_lab.backends
