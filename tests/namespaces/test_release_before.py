# SPDX-License-Identifier: Apache-2.0
"""An upgrade from the release before, under traffic."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.lab_director import CHECK, becomes, command
from tests.support.releases import DirectorBefore, release_before
from tests.support.running_transfers import all_running, serves
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=3)
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=64)
    return lab


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return release_before(tmp_path_factory.mktemp("before"))
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("scheduler", ["wlc", "mh"])
def test_no_connection_is_lost(lab: Lab, release: Path, scheduler: str) -> None:
    new = LabDirector(lab.director_host, lab.topology.instance)
    old = DirectorBefore(new, release)
    new.configure(web_configuration(lab.topology.backend_nodes, scheduler=scheduler, check=CHECK))
    try:
        old.start()
        for host in lab.backends:
            becomes(old, host.name, "up")
        with all_running(lab) as running:
            before = lab.director_host.xdp_program()
            assert old.stop()
            new.start()
            assert lab.director_host.xdp_program() != before
            for host in lab.backends:
                becomes(new, host.name, "up")
            serves(lab, *(host.name for host in lab.backends))
            running.assert_whole(to_the_end=False)  # what happened took long on a busy machine
    finally:
        old.stop()
        new.stop()
        command(new, "unload")
        shutil.rmtree(
            new.paths.state.parent, ignore_errors=True
        )  # the release before does not know its schema
