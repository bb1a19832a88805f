# SPDX-License-Identifier: Apache-2.0
"""The pictures of docs/dashboard.md and README.md: each page of the dashboard, of a lab under load.

`tools/dashboard shots` makes them (XDPDIRECTOR_SHOTS names their directory), a quarter of an hour after the load
has begun, so that charts are full. Without it they are made at once and thrown away.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.browser import MARKS, SOON, play, relayed
from tests.support.lab_director import becomes, directing
from xdpdirector.client import backend_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import TARGETS, HealthCheck, web_configuration
from xdpdirector.lab.host import Host
from xdpdirector.lab.topology import VIP4

pytestmark = MARKS

SHOTS = os.environ.get("XDPDIRECTOR_SHOTS", "")
QUARTER = 15 * 60.0  # seconds that charts show
TURN = 40.0  # seconds of one rate
DENIED = "192.0.2.199"  # an address of the clients' host
SERVER = """
import asyncio, sys

async def answer(reader, writer):
    try:
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 3\\r\\n\\r\\nok\\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()

async def main():
    for port in map(int, sys.argv[1:]):
        await asyncio.start_server(answer, "", port)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def configuration(lab: Lab) -> dict[str, Any]:
    """A shop with its API, and mail, of which one backend does not answer."""
    whole = web_configuration(lab.topology.backend_nodes, check=HealthCheck(interval=2.0, timeout=1.5))
    web = whole["services"]["web"] | {"labels": {"team": "shop"}}
    backends = web["backends"]
    check = {"type": "tcp", "interval": "2s", "timeout": "1500ms"}
    api = {
        "listeners": [f"{VIP4}:8080/tcp"],
        "scheduler": "mh",
        "check": check,
        "backends": {
            name: backends[name] | {"weight": 1 + place} for place, name in enumerate([*backends][:3])
        },
        "labels": {"team": "shop"},
        "limit": {"rate": 500},
    }
    mail = {
        "listeners": [f"{VIP4}:25/tcp"],
        "scheduler": "rr",
        "persistence": {"timeout": "5m"},
        "check": check,
        "backends": {name: backends[name] for name in [*backends][2:]},
    }
    return whole | {"services": {"web": web, "api": api, "mail": mail}}


def loading(
    host: Host, targets: list[str], seconds: float, number: int, *, rate: float, kept: int = 0
) -> None:
    options = {"rate": rate, "kept": kept, "pause": 0.2, "reuse": 100_000, "duration": seconds}
    line = [sys.executable, "-m", "xdpdirector.lab.load", *targets]
    line += [f"--{name}={value}" for name, value in options.items()]
    host.popen(*line, role=f"load-{number}", stdout=subprocess.DEVNULL)


def under_load(lab: Lab) -> None:
    """Rates go up and down, as in a day, but in minutes; what is kept stays on its backend."""
    whole = QUARTER if SHOTS else 1.0
    loading(lab.client, [f"{VIP4}:80"], whole + 600, 0, rate=2, kept=40)
    lab.client.run("ip", "address", "add", f"{DENIED}/24", "dev", "eth0")
    begun = time.monotonic()
    number = 1
    while (elapsed := time.monotonic() - begun) < whole:
        wave = math.sin(2 * math.pi * elapsed / QUARTER)
        loading(lab.client, list(TARGETS), TURN + 2, number, rate=34 + 22 * wave)
        loading(lab.client, [f"{VIP4}:8080"], TURN + 2, number + 1, rate=20 - 9 * wave)
        loading(lab.client, [f"{VIP4}:25"], TURN + 2, number + 2, rate=3)
        number += 3
        time.sleep(min(TURN, whole))
    loading(lab.client, [*TARGETS, f"{VIP4}:8080"], 600, number, rate=50)


@contextmanager
def serving(lab: Lab) -> Iterator[None]:
    with ExitStack() as stack:
        for place, host in enumerate(lab.backends):
            lab.nginx(host.name)
            ports = ["8080"] if place == len(lab.backends) - 1 else ["8080", "25"]
            server = host.popen(sys.executable, "-c", SERVER, *ports, role="servers")
            stack.callback(server.wait)
            stack.callback(server.kill)
        yield


def test_pictures_of_each_page(xdp_labs: Callable[..., Lab], tmp_path: Path) -> None:
    lab = xdp_labs(backends=4)
    wanted = configuration(lab)
    broken = wanted["services"]["mail"]["backends"].pop("backend4")
    with serving(lab), directing(lab, wanted) as director, relayed(director.paths.socket) as address:
        client = director.client
        client.put(backend_path("mail", "backend4"), broken)
        becomes(director, "backend4", "down", SOON, service="mail")
        client.post("/v1/guard/deny", {"prefix": f"{DENIED}/32", "reason": "scans since noon"})
        client.post("/v1/guard/deny", {"prefix": "203.0.113.0/24", "reason": "ticket 4711"})
        for name, role in (("prometheus", "read"), ("deploy", "operate")):
            client.post("/v1/tokens", {"name": name, "role": role, "lifetime": "90d"})
        under_load(lab)
        lab.client.run("ping", "-c", "3", "-i", "0.2", "-W", "1", "-I", DENIED, str(VIP4), check=False)
        lab.client.run(
            "curl", "-s", "--interface", DENIED, "--max-time", "2", f"http://{VIP4}/who", check=False
        )
        client.post(f"{backend_path('web', 'backend3')}/drain", {"reason": "new disk", "deadline": "20m"})
        play("pictures", address, client, SHOTS or str(tmp_path))
    made = {path.stem.removeprefix("dashboard-") for path in Path(SHOTS or tmp_path).glob("dashboard-*.webp")}
    assert {"overview", "service", "explain", "network", "changes", "plan", "audit", "events"} <= made
    assert {"guard", "access", "api", "wall", "narrow", "service-dark"} <= made
