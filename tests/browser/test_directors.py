# SPDX-License-Identifier: Apache-2.0
"""The panel of directors, in a browser: a real pair, of which one goes and returns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.browser import MARKS, SOON, play, relayed
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.waiting import wait_until

PORT = 8651

pytestmark = MARKS


def configuration(lab: Lab, number: int) -> dict[str, Any]:
    nodes = lab.topology.director_nodes
    mine, other = nodes[number - 1], nodes[2 - number]
    sync = {"name": f"director{number}", "listen": f"{mine.ipv4}:{PORT}", "peers": [f"{other.ipv4}:{PORT}"]}
    whole = web_configuration(lab.topology.backend_nodes)
    return whole | {"vips": "external", "sync": sync | {"insecure": True, "patience": 0}}


def is_synced(director: LabDirector) -> bool:
    [peer] = director.client.get("/v1/fleet")["peers"]
    return bool(peer["outgoing"]["state"] == peer["incoming"]["state"] == "synced")


@pytest.fixture
def pair(xdp_labs: Callable[..., Lab]) -> Iterator[list[LabDirector]]:
    lab = xdp_labs(backends=2, directors=2)
    for host in lab.backends:
        lab.nginx(host.name)
    with ExitStack() as stack:
        directors = []
        for number, instance in enumerate(lab.topology.instances, 1):
            director = lab.director(configuration(lab, number), number=number)
            words = [sys.executable, "-m", "xdpdirector", "--instance", instance.name, "unload"]
            stack.callback(lab.host(director.host.node.name).run, *words)
            stack.callback(director.stop)
            directors.append(director)
        wait_until(lambda: all(map(is_synced, directors)), "the peers are synced", SOON)
        yield directors


def test_the_directors_of_a_pair(pair: list[LabDirector]) -> None:
    first, second = pair

    def why(_: dict[str, Any]) -> object:
        [peer] = first.client.get("/v1/fleet")["peers"]
        assert peer["outgoing"]["why"]
        return str(peer["outgoing"]["why"])

    def another_link(_: dict[str, Any]) -> object:
        return address + first.client.post("/v1/sessions/links")["path"]

    with relayed(first.paths.socket) as address:
        play(
            "directors",
            address,
            first.client,
            stop=lambda _: second.stop(),
            start=lambda _: second.start(),
            why=why,
            another_link=another_link,
        )
