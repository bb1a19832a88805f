# SPDX-License-Identifier: Apache-2.0
"""Lesson 4: backend2 takes connections and answers each request with an error, and the check does not ask."""

from __future__ import annotations

from functools import partial
from typing import Any

from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.lessons.lesson import Check, Lesson
from xdpdirector.lab.lessons.observe import all_answered, backend, service

LONGEST = 3.0  # seconds until a failure is found


def build(lab: Lab) -> None:
    ill = lab.nginx("backend2")
    ill.stop()
    ill.answer_with(503)
    ill.start()
    document = web_configuration(lab.topology.backend_nodes)
    document["services"]["web"]["check"] = {"type": "tcp", "interval": "5s", "timeout": "3s", "fall": 3}
    lab.director(document).wait_serving()


def _seconds(duration: str) -> float:
    return float(duration[:-2]) / 1000 if duration.endswith("ms") else float(duration[:-1])


def _is_quick(check: dict[str, Any]) -> bool:
    longest: float = _seconds(check["interval"]) * check["fall"] + _seconds(check["timeout"])
    return longest <= LONGEST


LESSON = Lesson(
    "checks and failures",
    "4-failures.md",
    build,
    (
        Check(
            "the check asks for /healthz by HTTP",
            "`xdpdirector service set web --check http:/healthz`",
            lambda lab: service(lab)["check"].get("path") == "/healthz",
        ),
        Check(
            "a failure is found within 3 s: fall × interval + timeout",
            "the options --interval, --timeout and --fall of `xdpdirector service set`",
            lambda lab: _is_quick(service(lab)["check"]),
        ),
        Check(
            "backend2 is down",
            "`xdpdirector backend show web/backend2` has the reason; a check of another type may not see the fault",
            lambda lab: backend(lab, "backend2")["operational"] == "down",
        ),
        Check(
            "backend1 is up, and backend3 is the fallback of the service",
            "`xdpdirector service set web --fallback ...`; start nginx on backend1 again if you have stopped it",
            lambda lab: (
                backend(lab, "backend1")["operational"] == "up" and service(lab)["fallback"] == "backend3"
            ),
        ),
        Check(
            "backend1 answers all requests of the client",
            "the reason of each backend stands in `xdpdirector status`; who is up gets connections",
            partial(all_answered, by=("backend1",)),
        ),
    ),
)
