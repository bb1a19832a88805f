# SPDX-License-Identifier: Apache-2.0
"""The interfaces that carry the program, as their news come in."""

from dataclasses import replace

from xdpdirector.control.attach_keeper import AttachKeeper
from xdpdirector.control.events import Events
from xdpdirector.net.interfaces import Interface
from xdpdirector.paths import InstancePaths

MAC, OTHER = bytes.fromhex("020000000001"), bytes.fromhex("0200000000aa")
ETH0 = Interface("eth0", 2, MAC, up=True)
ETH1 = Interface("eth1", 3, MAC, up=True)


def test_another_mac_of_an_interface_of_ours_is_told() -> None:
    events = Events()
    carriers = AttachKeeper(InstancePaths("test"), ["eth0"], "auto", events)

    for links in ([ETH0, ETH1], [ETH0, replace(ETH1, mac=OTHER)], [], [replace(ETH0, index=7)], [ETH0]):
        carriers.see(links)
    quiet = events.since(0)[1]
    carriers.see([replace(ETH0, mac=OTHER)])
    carriers.see([replace(ETH0, mac=OTHER)])
    told = events.since(0)[1]

    assert not quiet
    assert [(event.kind, event.subject) for event in told] == [("network.mac-changed", "eth0")]
    assert "02:00:00:00:00:aa now, before 02:00:00:00:00:01" in told[0].text
