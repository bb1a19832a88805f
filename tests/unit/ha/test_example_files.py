# SPDX-License-Identifier: Apache-2.0
"""keepalived's files of the designs are what `xdpdirector keepalived-config` prints for them."""

from ipaddress import ip_address
from pathlib import Path

import pytest

from xdpdirector.config import config_file
from xdpdirector.ha.keepalived import Vrrp, render

PAIR = Path(__file__).parents[3] / "examples" / "designs" / "pair"


@pytest.mark.parametrize(("number", "priority"), [(1, 250), (2, 240)])
def test_the_pair_s_files_belong_together(number: int, priority: int) -> None:
    found = config_file.load(PAIR / f"director{number}.yaml")
    assert found.sync
    vips = dict.fromkeys(
        listener.address for service in found.services.values() for listener in service.listeners
    )
    vrrp = Vrrp(
        vips=[*vips],
        interface=found.interfaces[0],
        ready="/usr/bin/xdpdirector -i default status --ready",
        own=[ip_address("192.0.2.1" if number == 1 else "192.0.2.2")],
        peers=[ip_address("192.0.2.2" if number == 1 else "192.0.2.1")],
        priority=priority,
    )

    assert (PAIR / f"keepalived{number}.conf").read_text() == render(vrrp)
