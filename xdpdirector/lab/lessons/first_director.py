# SPDX-License-Identifier: Apache-2.0
"""Lesson 2: three web servers that are ready, and no director."""

from __future__ import annotations

from functools import partial

from xdpdirector.lab.lab import Lab
from xdpdirector.lab.lessons.lesson import Check, Lesson
from xdpdirector.lab.lessons.observe import all_answered, api, backend, service
from xdpdirector.lab.topology import VIP4, VIP6


def build(lab: Lab) -> None:
    """The backends have all that they need."""


def _listens(lab: Lab) -> bool:
    return {*service(lab)["listeners"]} == {f"{VIP4}:80/tcp", f"[{VIP6}]:80/tcp"}


def _serve(lab: Lab, *names: str) -> bool:
    return all(backend(lab, name)["serving"] for name in names)


LESSON = Lesson(
    "a first director",
    "2-first-director.md",
    build,
    (
        Check(
            "the director is ready, and its packet program is on eth0",
            "`xdpdirector run --config FILE` on the director; a problem stands in `xdpdirector status`",
            lambda lab: bool(api(lab).get("/readyz")["ready"] and lab.director_host.xdp_program()),
        ),
        Check(
            "its service web listens on port 80 of both VIPs, 192.0.2.10 and 2001:db8::10",
            "listeners is a list; an IPv6 address stands in brackets: '[2001:db8::10]:80/tcp'",
            _listens,
        ),
        Check(
            "it asks its backends for /healthz by HTTP",
            "check: {type: http, path: /healthz}, in the service",
            lambda lab: (
                (service(lab)["check"]["type"], service(lab)["check"]["path"]) == ("http", "/healthz")
            ),
        ),
        Check(
            "backend1 and backend2 serve",
            "backends, in the service: a name, and the address of each: 192.0.2.21 and 192.0.2.22",
            lambda lab: _serve(lab, "backend1", "backend2"),
        ),
        Check(
            "backend3 serves too, and came while the director ran",
            "`xdpdirector backend add web/backend3 ...`; --help has the options",
            lambda lab: _serve(lab, "backend3") and api(lab).get("/readyz")["revision"] > 1,
        ),
        *(
            Check(
                f"all three answer the client at {vip}",
                "`xdpdirector explain 192.0.2.100 192.0.2.10:80/tcp` says what happens to a request, and why",
                partial(all_answered, vip=vip, by=("backend1", "backend2", "backend3")),
            )
            for vip in (VIP4, VIP6)
        ),
    ),
)
