# SPDX-License-Identifier: Apache-2.0
"""The `sctp` check asks the kernel's own SCTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.support.check_servers import at
from tests.support.slowness import CHECK
from xdpdirector.health.checks import CheckFailed, direct
from xdpdirector.health.checks.sctp import IPPROTO_SCTP, probe
from xdpdirector.lab.host import run
from xdpdirector.model import Address
from xdpdirector.model.checks import SctpCheck

PORT = 3868
SPEC = SctpCheck(type="sctp", interval=CHECK.interval, timeout=CHECK.timeout)
HERE, HERE6 = ip_address("127.0.0.1"), ip_address("::1")


@pytest.fixture(scope="module", params=[HERE, HERE6], ids=str)
def address(request: pytest.FixtureRequest) -> Iterator[Address]:
    run("modprobe", "sctp")
    here: Address = request.param
    family = socket.AF_INET6 if here.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM, IPPROTO_SCTP) as server:
        server.bind((str(here), PORT))
        server.listen()
        yield here


def test_a_listening_port_acknowledges_the_init(address: Address) -> None:
    asyncio.run(probe(SPEC, at(PORT, address), direct))


def test_no_association_is_left(address: Address) -> None:
    asyncio.run(probe(SPEC, at(PORT, address), direct))

    assert len(Path("/proc/net/sctp/assocs").read_text().splitlines()) == 1  # the head


def test_a_closed_port_aborts(address: Address) -> None:
    with pytest.raises(CheckFailed, match=f"nothing listens on port {PORT + 1}"):
        asyncio.run(probe(SPEC, at(PORT + 1, address), direct))
