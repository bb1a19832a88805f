# SPDX-License-Identifier: Apache-2.0
"""The fakes keep the promises of what they stand for."""

import asyncio
from ipaddress import ip_address

import pytest

from tests.support.fake_neighbours import FakeNeighbours
from tests.support.fake_vips import FakeVips
from xdpdirector.errors import DataplaneError
from xdpdirector.model import Address
from xdpdirector.net.neighbours import (
    NeighbourTable,
    Route,
)
from xdpdirector.net.vips import (
    VipTable,
)

BACKEND, OTHER = ip_address("192.0.2.21"), ip_address("192.0.2.22")
VIP = ip_address("192.0.2.10")
MAC = bytes.fromhex("020000000021")


def test_neighbours_tell_real_changes_of_watched_addresses_only() -> None:
    said: list[Address] = []
    fake = FakeNeighbours(said.append)
    table: NeighbourTable = fake
    table.watch(BACKEND)
    table.watch(BACKEND)

    fake.learn(BACKEND, MAC)
    fake.learn(BACKEND, MAC)
    fake.learn(OTHER, MAC)
    fake.forget(BACKEND)
    table.unwatch(BACKEND)
    fake.learn(BACKEND, MAC)

    assert said == [BACKEND] * 3


def test_neighbours_give_what_they_learned() -> None:
    fake = FakeNeighbours(lambda address: None)
    local = Route("local", ifindex=1, interface="lo", why="an address of this machine")

    fake.learn(BACKEND, MAC)
    fake.put(VIP, local)

    assert (fake.get(BACKEND).kind, fake.get(BACKEND).mac) == ("neighbour", MAC)
    assert fake.get(VIP) == local
    assert (fake.get(OTHER).kind, fake.get(OTHER).mac) == ("unresolved", None)


def test_vips_are_what_was_wanted_last() -> None:
    fake = FakeVips()
    table: VipTable = fake

    asyncio.run(table.ensure({VIP}))
    assert table.present(VIP)

    fake.refuse = DataplaneError("no")
    with pytest.raises(DataplaneError):
        asyncio.run(table.ensure(set()))
    assert table.present(VIP)
