# SPDX-License-Identifier: Apache-2.0
"""Lesson 7: a client that gets nothing, for three reasons, one behind the other."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.lessons.lesson import PATIENT, Check, Lesson
from xdpdirector.lab.lessons.observe import all_answered, api, service
from xdpdirector.lab.topology import VIP4, VIP6

RECORDING = "web.jsonl"


def build(lab: Lab) -> None:
    document = web_configuration(lab.topology.backend_nodes, check=PATIENT)
    web = document["services"][SERVICE]
    web["listeners"] = web["listeners"][:1]
    web["limit"] = {"per_source": {"rate": "2/m"}}
    director = lab.director(document)
    director.wait_serving()
    denied = {"prefix": f"{lab.client.node.ipv4}/32", "reason": "scans ports"}
    director.client.post("/v1/guard/deny", denied)


def _recorded(lab: Lab) -> list[Any]:
    """The packets of the recording; none where it is not one."""
    try:
        lines = (lab.record.directory / RECORDING).read_text().splitlines()
        head, *packets = map(json.loads, lines)
    except (OSError, ValueError):
        return []
    return packets if head.get("kind") == "xdpdirector-replay" else []


def _is_recorded_without_backend1(lab: Lab) -> bool:
    backends = {each.get("backend") for each in _recorded(lab) if each["reason"] == "forward_new"}
    return bool(backends) and "backend1" not in backends


LESSON = Lesson(
    "replay, explain and trace",
    "7-replay.md",
    build,
    (
        Check(
            "the client is not denied",
            "`xdpdirector explain 192.0.2.100 192.0.2.10:80/tcp` says why; `xdpdirector guard list`",
            lambda lab: not api(lab).pages("/v1/guard/deny")["items"],
        ),
        Check(
            "web has no limit of new connections",
            "`xdpdirector service set web --limit ...`",
            lambda lab: not service(lab)["limit"],
        ),
        Check(
            "web listens on port 80 of both VIPs",
            "`xdpdirector service set web --listen ... --listen ...`: it replaces all listeners",
            lambda lab: {*service(lab)["listeners"]} == {f"{VIP4}:80/tcp", f"[{VIP6}]:80/tcp"},
        ),
        *(
            Check(
                f"all requests of the client to {vip} are answered",
                "`xdpdirector trace --client ADDRESS`, while the client sends a request",
                partial(all_answered, vip=vip),
            )
            for vip in (VIP4, VIP6)
        ),
        Check(
            "a recording of a replay without backend1 is in /run/xdpdirector-lab/lesson7/web.jsonl",
            "`xdpdirector trace --write FILE.pcapng` makes a capture; the options --down and --record of "
            "`xdpdirector replay` do the rest",
            _is_recorded_without_backend1,
        ),
    ),
)
