# SPDX-License-Identifier: Apache-2.0
"""Which settings make a gateway drop the replies of its backends. That they do was tried with real kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from xdpdirector.net.own_source_drops import ROOT, dropping


@pytest.mark.parametrize(
    ("settings", "drops"),
    [
        pytest.param({}, False, id="no IPv4"),
        pytest.param({"ip_forward": 0}, False, id="no router"),
        pytest.param({"ip_forward": 1}, True, id="a router"),
        pytest.param({"ip_forward": 1, "conf/eth0/accept_local": 1}, False, id="that takes own addresses"),
        pytest.param({"ip_forward": 1, "conf/all/accept_local": 1}, False, id="everywhere"),
        pytest.param({"ip_forward": 1, "conf/eth1/accept_local": 1}, True, id="elsewhere"),
        pytest.param(
            {"ip_forward": 1, "conf/eth0/accept_local": 1, "conf/all/rp_filter": 1}, True, id="and is strict"
        ),
        pytest.param(
            {
                "ip_forward": 1,
                "conf/eth0/accept_local": 1,
                "conf/all/rp_filter": 1,
                "conf/eth0/rp_filter": 2,
            },
            False,
            id="and is loose there",
        ),
    ],
)
def test_what_is_dropped(settings: dict[str, int], drops: bool) -> None:
    def read(path: Path) -> int | None:
        return settings.get(str(path.relative_to(ROOT)))

    assert set(dropping(["eth0"], read)) == ({"eth0"} if drops else set())
