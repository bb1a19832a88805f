# SPDX-License-Identifier: Apache-2.0
"""Lesson 8: five faults at once; the daemon does not even start."""

from __future__ import annotations

from functools import partial

from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.lessons.lesson import PATIENT, Check, Lesson
from xdpdirector.lab.lessons.observe import all_answered, api, arp_answers, backend
from xdpdirector.lab.topology import VIP4, VIP6


def build(lab: Lab) -> None:
    document = web_configuration(lab.topology.backend_nodes, check=PATIENT)
    director = lab.director(document)
    director.wait_serving()
    director.stop()
    lab.director_host.run(*director.command[:-3], "unload")
    text = director.configuration.read_text()
    director.configuration.write_text(text.replace("scheduler:", "schedulr:"))
    first, second, third = lab.backends
    lab.nginx(first.name).stop()
    second.run("ip", "address", "del", f"{VIP6}/128", "dev", "lo")
    third.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.all.arp_announce=0")


def _is_up(lab: Lab, name: str) -> bool:
    return bool(backend(lab, name)["operational"] == "up")


LESSON = Lesson(
    "when it breaks",
    "8-when-it-breaks.md",
    build,
    (
        Check(
            "the director is ready, and its packet program is on eth0",
            "start the daemon in the foreground and read what it says: `xdpdirector run --config FILE`",
            lambda lab: bool(api(lab).get("/readyz")["ready"] and lab.director_host.xdp_program()),
        ),
        Check(
            f"the service {SERVICE} is there",
            "the file is the one that the daemon was started with before: do not write another one",
            lambda lab: [each["name"] for each in api(lab).pages("/v1/services")["items"]] == [SERVICE],
        ),
        *(
            Check(
                f"{name} is up for both VIPs",
                f"`xdpdirector backend show web/{name}` has a reason for each VIP; then look on the host itself",
                partial(_is_up, name=name),
            )
            for name in ("backend1", "backend2", "backend3")
        ),
        Check(
            "only the director answers an ARP request for 192.0.2.10",
            "`xdpdirector lan` names who answers, and the remedy",
            lambda lab: arp_answers(lab) == {"director"},
        ),
        *(
            Check(
                f"all three backends answer the client at {vip}",
                "a client keeps a wrong MAC address for a while: ip neighbour flush dev eth0",
                partial(all_answered, vip=vip, by=("backend1", "backend2", "backend3")),
            )
            for vip in (VIP4, VIP6)
        ),
    ),
)
