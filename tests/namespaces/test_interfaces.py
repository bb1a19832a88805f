# SPDX-License-Identifier: Apache-2.0
"""The interfaces of a namespace, as its own netlink shows them."""

from collections.abc import Iterator
from ipaddress import ip_interface

import pytest

from tests.support.veth_pair import DIRECTOR4, DIRECTOR6, DIRECTOR_MAC, Pair
from xdpdirector.errors import InvalidRequestError
from xdpdirector.net.interfaces import find

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


def test_found_as_it_is(pair: Pair) -> None:
    [eth0] = pair.director.call(lambda: find(["eth0"]))

    assert (eth0.name, eth0.mac, eth0.up) == ("eth0", DIRECTOR_MAC, True)
    assert eth0.index > 1
    assert {ip_interface(f"{DIRECTOR4}/24"), ip_interface(f"{DIRECTOR6}/64")} <= set(eth0.networks)


def test_found_in_the_order_of_the_names(pair: Pair) -> None:
    found = pair.director.call(lambda: find(["lo", "eth0"]))

    assert [(interface.name, interface.mac != b"") for interface in found] == [("lo", False), ("eth0", True)]


def test_without_carrier_it_is_not_up(pair: Pair) -> None:
    pair.peer.ip("link", "set", "eth0", "down")
    try:
        [eth0] = pair.director.call(lambda: find(["eth0"]))
    finally:
        pair.peer.ip("link", "set", "eth0", "up")

    assert not eth0.up


def test_unknown_name_is_refused_with_the_present_ones(pair: Pair) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        pair.director.call(lambda: find(["eth0", "eth9"]))

    assert refusal.value.detail == "interface 'eth9' does not exist here; there are: eth0, lo"
    assert refusal.value.pointer == "/interfaces/1"


def test_a_port_is_refused_and_its_master_named(pair: Pair) -> None:
    """A VIP there would be found by nobody: what comes in at a port is its master's."""
    pair.director.ip("link", "add", "above", "type", "bridge")
    pair.director.ip("link", "add", "port", "type", "veth", "peer", "name", "end")
    pair.director.ip("link", "set", "port", "master", "above")
    try:
        with pytest.raises(InvalidRequestError) as refusal:
            pair.director.call(lambda: find(["eth0", "port"]))
        [above] = pair.director.call(lambda: find(["above"]))
    finally:
        pair.director.ip("link", "delete", "port")
        pair.director.ip("link", "delete", "above")

    assert "'port' is a port of the bridge 'above'" in refusal.value.detail
    assert refusal.value.pointer == "/interfaces/1"
    assert above.kind == "bridge"
