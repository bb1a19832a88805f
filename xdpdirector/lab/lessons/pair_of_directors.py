# SPDX-License-Identifier: Apache-2.0
"""Lesson 6: two directors that know nothing of each other, and VIPs that stand nowhere."""

from __future__ import annotations

from functools import partial
from typing import Any

from xdpdirector.errors import DirectorError
from xdpdirector.lab import processes
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.director import READY_WITHIN, LabDirector
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.lessons.lesson import PATIENT, Check, Lesson
from xdpdirector.lab.lessons.observe import addresses, all_answered, api
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

VIPS = {f"{VIP4}/32", f"{VIP6}/128"}


def build(lab: Lab) -> None:
    """Both run. They are not ready, as no VIP is there."""
    document = web_configuration(lab.topology.backend_nodes, check=PATIENT) | {"vips": "external"}
    for host, instance in zip(lab.director_hosts, lab.topology.instances, strict=True):
        director = LabDirector(host, instance)
        director.configure(document)
        director.launch()
    for number in (1, 2):
        wait_until(partial(_serve, lab, number), "every backend serves", READY_WITHIN)


def _serve(lab: Lab, number: int) -> bool:
    try:
        found = api(lab, number).get("/v1/services/web")["backends"]
    except DirectorError:
        return False
    return all(each["serving"] for each in found)


def _is_synced(lab: Lab) -> bool:
    peers = [api(lab, number).get("/v1/fleet")["peers"] for number in (1, 2)]
    states = [peer[way]["state"] for each in peers for peer in each for way in ("incoming", "outgoing")]
    return states == ["synced"] * 4


def _runs(lab: Lab, host: str, program: str) -> bool:
    node = lab.topology.node(host)
    return any(each.command.startswith(program) for each in processes.inside([node.namespace_path]))


def _have_vips(lab: Lab) -> list[bool]:
    return [addresses(host, "eth0") >= VIPS for host in lab.director_hosts]


def _connections(lab: Lab, number: int) -> set[Any]:
    """The client's ports of those that are established."""
    found = api(lab, number).pages("/v1/connections", {"service": "web"})["items"]
    return {each["client_port"] for each in found if each["state"] == "established"}


def _goes_on(lab: Lab) -> bool:
    return bool(_connections(lab, 1) & _connections(lab, 2)) and _runs(lab, "client", "curl")


LESSON = Lesson(
    "a pair of directors",
    "6-pair.md",
    build,
    (
        Check(
            "connections travel in both directions",
            "sync in both files: listen is the director itself, peers the other one; `xdpdirector fleet status`",
            _is_synced,
        ),
        Check(
            "keepalived runs on director2",
            "`xdpdirector keepalived-config --priority 240` prints its configuration",
            lambda lab: _runs(lab, "director2", "keepalived"),
        ),
        Check(
            "the VIPs are on director2, and not on director",
            "keepalived on director must have ended: SIGTERM to the process of the pid file",
            lambda lab: _have_vips(lab) == [False, True],
        ),
        Check(
            "a download that began on director goes on through director2",
            "begin it while director has the VIPs: curl --limit-rate 8k http://192.0.2.10/big",
            _goes_on,
        ),
        Check(
            "new requests of the client are answered",
            "who has the VIP? ip neighbour show 192.0.2.10, on the client",
            all_answered,
        ),
    ),
    directors=2,
    big_megabytes=32,
)
