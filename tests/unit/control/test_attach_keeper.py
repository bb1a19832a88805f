# SPDX-License-Identifier: Apache-2.0
"""The interfaces that carry the program, as their news come in."""

from dataclasses import replace

import pytest

from xdpdirector.control.attach_keeper import AttachKeeper
from xdpdirector.control.events import Events
from xdpdirector.loader.attachment import Attachment
from xdpdirector.net.interfaces import Interface
from xdpdirector.paths import InstancePaths

MAC, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("0200000000aa")
ETH0 = Interface("eth0", 2, MAC, up=True)
ETH1 = Interface("eth1", 3, MAC, up=True)
BRIDGE = Interface("br0", 9, MAC, up=True, kind="bridge")


def test_another_mac_of_an_interface_of_ours_is_told() -> None:
    events = Events()
    carriers = AttachKeeper(InstancePaths("test"), ["eth0"], "auto", events)

    for links in ([ETH0, ETH1], [ETH0, replace(ETH1, mac=OTHER)], [], [replace(ETH0, index=7)], [ETH0]):
        carriers.see(links)
    quiet = events.since(0)[1]
    carriers.see([replace(ETH0, mac=OTHER)])
    carriers.see([replace(ETH0, mac=OTHER)])
    told = events.since(0)[1]

    assert quiet == []
    assert [(event.kind, event.subject) for event in told] == [("network.mac-changed", "eth0")]
    assert "02:00:00:00:00:aa now, before 02:00:00:00:00:01" in told[0].text


@pytest.mark.parametrize(
    ("links", "problem"),
    [
        pytest.param([ETH0, ETH1], "", id="all is well"),
        pytest.param([replace(ETH0, up=False)], "eth0 is down or has no carrier", id="no carrier"),
        pytest.param([ETH1], "eth0 does not exist any more; there are: eth1", id="gone"),
        pytest.param([replace(ETH0, master=9), BRIDGE], "port of the bridge 'br0'", id="port"),
    ],
)
def test_what_is_wrong_with_an_interface_follows_its_events(
    links: list[Interface], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = [Attachment("eth0", 2, "native", 1)]
    monkeypatch.setattr("xdpdirector.loader.attachment.attachments", lambda paths: carried)
    carriers = AttachKeeper(InstancePaths("test"), ["eth0"], "auto", Events())
    assert carriers.problems() == []

    carriers.see([ETH0, ETH1])
    carriers.see(links)

    assert problem in " ".join(carriers.problems())
    assert bool(problem) == bool(carriers.problems())
