# SPDX-License-Identifier: Apache-2.0
"""Passive health with real servers: whose accept queue is full does not answer SYNs, and is told by its clients."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.support.lab_client import answering, socket_on
from tests.support.lab_director import becomes, view
from xdpdirector.client import service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

AT_ONCE = 45
PATIENCE = 1.5
"""Seconds: a client sends its SYN again after one (RFC 6298)."""
JUDGED = 90.0
BACKLOG = 1


@contextmanager
def full_accept_queue(lab: Lab, name: str) -> Iterator[None]:
    """In place of its nginx a server that accepts nothing, so that the kernel drops SYNs once its queue is full."""
    lab.nginx(name).stop()
    try:
        with socket_on(lab.host(name), socket.AF_INET, socket.SOCK_STREAM) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((str(VIP4), 80))
            server.listen(BACKLOG)
            yield
    finally:
        lab.nginx(name).start()


def clients(lab: Lab) -> int:
    """Some open a connection each, and give up in time; how many were answered."""
    with ExitStack() as stack:
        waiting = set()
        for _ in range(AT_ONCE):
            client = stack.enter_context(socket_on(lab.client, socket.AF_INET, socket.SOCK_STREAM))
            client.setblocking(False)
            client.connect_ex((str(VIP4), 80))
            waiting.add(client)
        until = time.monotonic() + PATIENCE
        while waiting and (left := until - time.monotonic()) > 0:
            waiting -= set(select.select([], list(waiting), [], left)[1])
        return AT_ONCE - len(waiting)


def passive(director: LabDirector, name: str) -> dict[str, Any]:
    found: dict[str, Any] = view(director, name)["passive"]
    return found


def becomes_by_clients(lab: Lab, director: LabDirector, name: str, state: str) -> None:
    def look() -> bool:
        clients(lab)
        return passive(director, name)["state"] == state

    wait_until(look, f"{name} is {state}", JUDGED)


def serve(lab: Lab, director: LabDirector, scheduler: str, **passive: object) -> None:
    service = web_configuration(lab.topology.backend_nodes, scheduler=scheduler)["services"][SERVICE]
    director.client.delete(service_path(SERVICE))
    director.client.put(service_path(SERVICE), {**service, "check": None, "passive": passive})
    for host in lab.backends:
        becomes(director, host.name, "up")


@pytest.mark.parametrize("scheduler", ["rr", "mh"])
def test_a_backend_that_does_not_answer_is_ejected(lab: Lab, director: LabDirector, scheduler: str) -> None:
    bad, *good = [host.name for host in lab.backends]
    serve(lab, director, scheduler, eject=True, trial_after="10m")

    with full_accept_queue(lab, bad):
        becomes_by_clients(lab, director, bad, "ejected")
        shown = view(director, bad)

        assert {name: passive(director, name)["state"] for name in good} == dict.fromkeys(good, "normal")
        assert (shown["operational"], shown["serving"]) == ("up", False)
        assert "had to send their SYN again" in shown["reason"]
        assert shown["passive"]["share"] > 0.5
        assert {answering(lab.client, VIP4) for _ in range(12)} <= set(good)
        assert clients(lab) == AT_ONCE


def test_one_that_is_only_shown_keeps_its_weight_and_is_cleared_when_it_answers(
    lab: Lab, director: LabDirector
) -> None:
    bad, *good = [host.name for host in lab.backends]
    serve(lab, director, "rr")

    with full_accept_queue(lab, bad):
        becomes_by_clients(lab, director, bad, "suspect")
        assert view(director, bad)["serving"]
    becomes_by_clients(lab, director, bad, "normal")

    counts = passive(director, good[0])
    assert counts["handshakes"] > 0.9 * counts["syns"]
    assert sum(each["count"] for each in counts["times"]) == counts["handshakes"]
    assert {answering(lab.client, VIP4) for _ in range(12)} == {bad, *good}
