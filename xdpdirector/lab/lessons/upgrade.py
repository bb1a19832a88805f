# SPDX-License-Identifier: Apache-2.0
"""Lesson 5: long downloads run, somebody has changed two things at night, and the connection table is too small."""

from __future__ import annotations

from functools import partial

from xdpdirector.client import backend_path
from xdpdirector.lab.configuration import TARGETS, web_configuration
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.lessons.lesson import PATIENT, Check, Lesson
from xdpdirector.lab.lessons.observe import all_answered, api, backend, room, running, service
from xdpdirector.lab.waiting import wait_until

DOWNLOADS = 6
BIG = 32  # MiB of each: at 8 KiB a second more than an hour
FEW, MANY = 16_384, 131_072


def build(lab: Lab) -> None:
    document = web_configuration(lab.topology.backend_nodes, check=PATIENT)
    document["sizes"] = {"connections": FEW}
    director = lab.director(document)
    director.wait_serving()
    for number in range(DOWNLOADS):
        url = f"http://{TARGETS[0]}/big"
        lab.client.popen("curl", "-s", "-o", "/dev/null", "--limit-rate", "8k", url, role=f"download{number}")
    wait_until(
        lambda: sum(each["connections"]["active"] for each in service(lab)["backends"]) == DOWNLOADS,
        "the downloads run",
    )
    director.client.patch("/v1/services/web", {"scheduler": "fo"})
    director.client.patch(backend_path("web", "backend2"), {"weight": 0})


LESSON = Lesson(
    "drain, upgrade, rollback",
    "5-upgrade.md",
    build,
    (
        Check(
            "the six downloads of the client still run",
            "a download that is cut does not come back: build the lab of this lesson again",
            lambda lab: running(lab, "download") == DOWNLOADS,
        ),
        Check(
            "the scheduler and the weights are those of revision 1",
            "`xdpdirector revisions list`, and `xdpdirector revisions rollback --help`",
            lambda lab: (
                service(lab)["scheduler"] == "wlc"
                and all(each["weight"] == 1 for each in service(lab)["backends"])
            ),
        ),
        Check(
            f"the connection table has room for {MANY} connections",
            "sizes: {connections: ...} in the file; then the daemon must be started again",
            lambda lab: room(lab, "connections4") >= MANY,
        ),
        Check(
            "the director is ready",
            "`xdpdirector status` says what it waits for; start the daemon with its configuration file",
            lambda lab: bool(api(lab).get("/readyz")["ready"]),
        ),
        Check(
            "backend1 drains",
            "`xdpdirector backend drain web/backend1`",
            lambda lab: backend(lab, "backend1")["admin"] == "drain",
        ),
        Check(
            "backend2 and backend3 answer all new requests",
            "`xdpdirector status` shows who gets new connections: enabled, up, and a weight above 0",
            partial(all_answered, by=("backend2", "backend3")),
        ),
    ),
    big_megabytes=BIG,
)
