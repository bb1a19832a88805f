# SPDX-License-Identifier: Apache-2.0
"""The daemon's doors and its audit, as an operator meets them: the file, tokens, curl, what is written down."""

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.lab_director import becomes, command, directing
from xdpdirector.client import backend_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, HealthCheck, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import run
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

LOOPBACK, OWN = "127.0.0.1:8650", "192.0.2.1:8650"
USAGE = 2
PATH = backend_path(SERVICE, "backend1")


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=1)
    lab.nginx("backend1")
    return lab


@pytest.fixture(scope="module")
def document(lab: Lab) -> dict[str, Any]:
    return web_configuration(lab.topology.backend_nodes, check=HealthCheck())


@pytest.fixture(scope="module")
def director(lab: Lab, document: dict[str, Any]) -> Iterator[LabDirector]:
    with directing(lab, document) as director:
        yield director


@pytest.fixture(scope="module")
def tls(lab: Lab) -> dict[str, str]:
    """A certificate for the director's own address."""
    directory = lab.director_host.directory("tls")
    files = {"certificate": str(directory / "tls.pem"), "key": str(directory / "tls.key")}
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "1", "-subj", "/CN=director", "-addext", "subjectAltName=IP:192.0.2.1,IP:127.0.0.1"),
        *("-keyout", files["key"], "-out", files["certificate"]),
    )
    return files


def refused(director: LabDirector, document: Mapping[str, Any]) -> str:
    """What the daemon says that does not start."""
    other = director.configuration.with_name("other.yaml")
    with other.open("w") as file:
        YAML().dump(dict(document), file)
    done = director.host.run(*director.command[:-1], str(other), check=False)
    assert done.returncode == USAGE
    assert director.host.xdp_program()
    return " ".join(done.stderr.split())


def test_it_starts_with_no_door_that_anybody_could_use(
    director: LabDirector, document: dict[str, Any], tls: dict[str, str]
) -> None:
    director.stop()

    without_token = refused(director, document | {"api": {"listen": [LOOPBACK]}})
    with_tls = refused(director, document | {"api": {"listen": [OWN], "tls": tls}})
    without_tls = refused(director, document | {"api": {"listen": [OWN]}})
    director.start()

    assert f"api.listen has {LOOPBACK}, and there is no valid token" in without_token
    assert "no valid token" in with_tls
    assert f"{OWN}, which others can reach, and there is no TLS" in without_tls


def test_tokens_open_the_doors_that_the_file_names(
    lab: Lab, director: LabDirector, document: dict[str, Any], tls: dict[str, str]
) -> None:
    director.stop()
    token = command(director, "token", "add", "prometheus", "--role", "read").stdout.strip()
    director.configure(document | {"api": {"listen": [LOOPBACK, OWN], "tls": tls}})
    director.start()

    def curl(where: str, *more: str) -> int:
        line = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", tls["certificate"], *more]
        host = lab.director_host if "127" in where else lab.client
        return int(host.run(*line, f"https://{where}/metrics", check=False).stdout)

    bearer = ("-H", f"authorization: Bearer {token}")
    before = [curl(where, *bearer) for where in (LOOPBACK, OWN)]
    stranger = curl(OWN)
    command(director, "token", "remove", "prometheus")
    after = curl(OWN, *bearer)
    director.stop()
    director.configure(document)
    director.start()

    assert (before, stranger, after) == ([200, 200], 401, 401)


def test_what_the_daemon_does_by_itself_is_in_the_audit(director: LabDirector) -> None:
    """A drain's deadline, and a changed file; beside what somebody asked for."""
    director.client.post(f"{PATH}/drain", {"reason": "new disk", "deadline": "100ms", "on_deadline": "cut"})
    wait_until(lambda: director.client.get(PATH)["admin"] == "maintenance", "it is cut off")
    director.client.post(f"{PATH}/enable")
    becomes(director, "backend1", "up")
    document = YAML().load(director.configuration)
    document["services"][SERVICE]["backends"]["backend1"]["weight"] = 3
    director.configure(document)
    assert director.pid
    wait_until(lambda: Path(f"/proc/{director.pid}/stat").exists(), "it runs")
    director.host.run("kill", f"-{signal.SIGHUP.value}", str(director.pid))
    wait_until(lambda: director.client.get(PATH)["weight"] == 3, "the file is read again")

    shown = json.loads(command(director, "audit", "--limit", "4", "-o", "json").stdout)["items"]

    assert [(row["author"], row["operation"], row["outcome"]) for row in shown[::-1]] == [
        ("root", "drain_backend", "done"),
        ("director", "daemon", "done"),
        ("root", "enable_backend", "done"),
        ("file", "daemon", "done"),
    ]
    revisions = [row["revision"] for row in shown[::-1]]
    assert revisions == sorted(set(revisions))
    assert "new disk" in shown[-1]["reason"]
    assert {row["source"] for row in shown if row["operation"] == "daemon"} == {"daemon"}
