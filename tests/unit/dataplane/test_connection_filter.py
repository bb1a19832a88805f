# SPDX-License-Identifier: Apache-2.0
"""Which rows of the connection table are a client's."""

from __future__ import annotations

from ipaddress import ip_network

import numpy as np
import pytest

from xdpdirector.dataplane.conntrack_list import _from
from xdpdirector.dataplane.maps import address_words


def column(*addresses: str, version: int) -> np.ndarray:
    """As the table has them: one word for IPv4, four for IPv6."""
    words = [address_words(ip_network(address).network_address) for address in addresses]
    shape = (len(addresses),) if version == 4 else (len(addresses), 4)
    return np.array(words, np.uint32).reshape(shape)


@pytest.mark.parametrize(
    ("rows", "wanted", "found"),
    [
        (column("192.0.2.1", "192.0.2.2", version=4), "192.0.2.2", [False, True]),
        (column("192.0.2.1", "198.51.100.1", version=4), "192.0.2.0/24", [True, False]),
        (column("2001:db8::1", "2001:db8:1::1", version=6), "2001:db8::/48", [True, False]),
        (column("192.0.2.1", version=4), "2001:db8::1", [False]),
        (column("2001:db8::1", version=6), "192.0.2.1", [False]),
        pytest.param(column(version=4), "192.0.2.1", [], id="a stretch without rows"),
        pytest.param(column(version=6), "2001:db8::1", [], id="one of IPv6 without rows"),
    ],
)
def test_the_rows_of_a_client(rows: np.ndarray, wanted: str, found: list[bool]) -> None:
    assert _from(rows, ip_network(wanted)).tolist() == found
