# SPDX-License-Identifier: Apache-2.0
"""Lesson 3: three services with the default scheduler, of which none is right."""

from __future__ import annotations

from xdpdirector.lab.configuration import backend_address
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.lessons.lesson import PATIENT, Check, Lesson
from xdpdirector.lab.lessons.observe import answers, datagrams, service
from xdpdirector.lab.topology import VIP4, VIP6

ECHO = 7007


def build(lab: Lab) -> None:
    backends = {node.name: {"address": backend_address(node)} for node in lab.topology.backend_nodes}
    for host in lab.backends:
        lab.echo(host.name, ECHO)
    listeners = {
        "web": f"{VIP4}:80/tcp",
        "shop": f"[{VIP6}]:80/tcp",
        "echo": f"{VIP4}:{ECHO}/udp",
    }
    checks = {name: {"check": PATIENT.document()} for name in ("web", "shop")}
    services = {
        name: {"listeners": [listener], "backends": backends, **checks.get(name, {})}
        for name, listener in listeners.items()
    }
    lab.director({"interfaces": ["eth0"], "services": services}).wait_serving()


def _has_half(lab: Lab) -> bool:
    found = answers(lab)
    return len(found) == 24 and 10 <= found.count("backend3") <= 14


def _is_kept(lab: Lab) -> bool:
    found = answers(lab, f"[{VIP6}]")
    return len(found) == 24 and len({*found}) == 1


def _weights(lab: Lab) -> list[int]:
    return [each["weight"] for each in service(lab)["backends"]]


LESSON = Lesson(
    "schedulers and persistence",
    "3-schedulers.md",
    build,
    (
        Check(
            "web takes turns by weight, and backend3 has twice the weight of each other one",
            "`xdpdirector service set web --scheduler ...` and `xdpdirector backend set web/backend3 --weight ...`",
            lambda lab: service(lab)["scheduler"] == "wrr" and _weights(lab) == [1, 1, 2],
        ),
        Check(
            "backend3 answers half of the client's requests to web",
            "compare the weights in `xdpdirector status`: the share of a backend is its weight, by the sum of all",
            _has_half,
        ),
        Check(
            "shop keeps a client on its backend for 300 s",
            "`xdpdirector service set shop --persistence ...`",
            lambda lab: (service(lab, "shop")["persistence"] or {}).get("timeout") == "300s",
        ),
        Check(
            "one backend answers all requests of the client to shop",
            "sessions of a client begin with its next connection; `xdpdirector explain` says which backend that is",
            _is_kept,
        ),
        Check(
            "echo selects by Maglev hashing, and stores no connection of its own",
            "the scheduler mh",
            lambda lab: service(lab, "echo")["scheduler"] == "mh",
        ),
        Check(
            "the datagrams of one socket are answered by one backend",
            "`xdpdirector explain 192.0.2.100:5000 192.0.2.10:7007/udp`",
            lambda lab: len(datagrams(lab, ECHO)) == 5 and len({*datagrams(lab, ECHO)}) == 1,
        ),
    ),
)
