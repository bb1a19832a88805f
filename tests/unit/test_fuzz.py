# SPDX-License-Identifier: Apache-2.0
"""Ten thousand requests that a machine thought out of the OpenAPI document: sound ones, wrong ones, and sequences.

schemathesis asks over TCP, with a token, the whole daemon but for packets (`staged_daemon`). No answer is a
server's error, none is outside the document; what the document allows is taken, what it forbids is refused.
`fuzz.toml` and `fuzz_hooks.py` say how. Of schemathesis' checks two are left out: object_level_authorization looks
whether one identity reads what another made, which is right here, as roles say who may do what and nobody owns a
service; and max_response_time, as how quick answers are on a busy machine is the bench's affair.

XDPDIRECTOR_SEED chooses other cases; a failure shows its request as a curl command. XDPDIRECTOR_CASES says how many
there are at least; more of them are random ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from staged_daemon import StagedDaemon

from xdpdirector.api.roles import ROLES
from xdpdirector.client import Client

HERE = Path(__file__).parent
SEED = os.environ.get("XDPDIRECTOR_SEED", "1")
CASES = int(os.environ.get("XDPDIRECTOR_CASES", "10000"))
FOR_ALL = 100  # random cases of each operation are this part of all
PATIENCE = 60 + CASES / 20  # seconds
WITHOUT_ANSWERS = {
    "openapi",
    "swagger_ui_html",
    "swagger_ui_redirect",
}  # of the framework; not in the document
WEB = {
    "listeners": ["192.0.2.99:80/tcp"],
    "backends": {"web1": {"address": "192.0.2.21"}, "web2": {"address": "192.0.2.22", "admin": "drain"}},
}
MAIL = {"listeners": ["192.0.2.98:25/tcp"], "backends": {"mail1": {"address": "192.0.2.23"}}}
GARDEN = {"/v1/services/web": WEB, "/v1/services/mail": MAIL, "/v1/guard/deny/203.0.113.0%2F24": {}}


class Run(NamedTuple):
    daemon: StagedDaemon
    exit_status: int
    said: str


def plant(client: Client) -> None:
    """What there is to ask about."""
    client.post("/v1/services", {"name": "web", **WEB})
    client.post("/v1/services", {"name": "mail", **MAIL})
    client.post("/v1/guard/deny", {"prefix": "203.0.113.0/24"})
    client.post("/v1/tokens", {"name": "spare", "role": "read"})


def asked(daemon: StagedDaemon, directory: Path) -> subprocess.CompletedProcess[str]:
    document = directory / "openapi.json"
    document.write_text(json.dumps(daemon.client.get("/openapi.json")))
    environment = {
        "XDPDIRECTOR_URL": daemon.url,
        "XDPDIRECTOR_TOKEN": daemon.token,
        "XDPDIRECTOR_GARDEN": json.dumps(GARDEN),
        "PYTHONPATH": str(HERE),
    }
    line = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "fuzz.toml", "run", document]
    line += ["--url", daemon.url, "--seed", SEED, "--max-examples", str(max(1, CASES // FOR_ALL))]
    return subprocess.run(
        line,
        cwd=directory,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with StagedDaemon() as daemon:
        plant(daemon.client)
        done = asked(daemon, tmp_path_factory.mktemp("fuzz"))
    return Run(daemon, done.returncode, done.stdout)


def test_no_answer_is_outside_the_document(run: Run) -> None:
    assert run.exit_status == 0, run.said


def test_there_were_enough_cases(run: Run) -> None:
    assert run.daemon.answers.total() >= CASES


@pytest.mark.parametrize("operation", sorted(ROLES.keys() - WITHOUT_ANSWERS))
def test_each_operation_was_reached(run: Run, operation: str) -> None:
    """A fuzz that is always refused finds nothing."""
    assert any(each == operation and status < 300 for each, status in run.daemon.answers), run.said


def test_nothing_broke_on_the_way(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    stage = run.daemon.stage

    assert run.daemon.failures == []
    assert [record for record in caplog.get_records("setup") if record.levelname == "ERROR"] == []
    assert stage.reconciler.drift_repaired == 0
    assert stage.reconciler.problems() == []
    assert {name: [each.name for each in plan.members] for name, plan in stage.plane.plans.items()} == {
        name: list(spec.backends) for name, spec in stage.wanted().items()
    }
