# SPDX-License-Identifier: Apache-2.0
"""Requests that a machine thought out of the OpenAPI document: sound ones, wrong ones, and sequences.

schemathesis asks over TCP, with a token, the whole daemon but for packets (`staged_daemon`). No answer is a
server's error, none is outside the document; what the document allows is taken, what it forbids is refused.
`fuzz.toml` and `fuzz_hooks.py` say how. Of schemathesis' checks two are left out: object_level_authorization looks
whether one identity reads what another made, which is right here, as roles say who may do what and nobody owns a
service; and max_response_time, as how quick answers are on a busy machine is the bench's affair.

XDPDIRECTOR_SEED chooses other cases; a failure shows its request as a curl command. The soak asks ten thousand,
most of them those of schemathesis' coverage: each value that the document forbids or allows, one by one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.support.fuzzing import SINGLE, create_resources, runs
from tests.support.staged_daemon import StagedDaemon
from xdpdirector.api.auth import auditing
from xdpdirector.api.auth.roles import ROLES

FEW, MANY = 300, 10_000  # cases at least
EXAMPLES = {FEW: 5, MANY: 100}  # random cases of each operation
PATIENCE = 1200.0  # seconds
WITHOUT_ANSWERS = {
    "openapi",  # the document itself,
    "get_reference",  # and the page of it
    "delete_session",  # nobody is logged in
}
WEB = {
    "listeners": ["192.0.2.99:80/tcp"],
    "backends": {
        "web1": {"address": "192.0.2.21", "labels": {"rack": "b3"}},
        "web2": {"address": "192.0.2.22", "admin": "drain"},
    },
}
MAIL = {"listeners": ["192.0.2.98:25/tcp"], "backends": {"mail1": {"address": "192.0.2.23"}}}
RESOURCES = {"/v1/services/web": WEB, "/v1/services/mail": MAIL}
DENIED = {"/v1/guard/deny/203.0.113.0%2F24": {}}


class Asked(NamedTuple):
    """At least `cases`; `well`: when schemathesis found nothing; what it said."""

    cases: int
    daemon: StagedDaemon
    well: bool
    said: str


@pytest.fixture(scope="module")
def unslowed() -> Iterator[None]:
    """ignored_auth sends wrong tokens, whose answers access control delays: by up to four seconds each, nearly
    all that a run took. test_strangers.py tests the delays."""

    async def pause(_seconds: float) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auditing, "pause", pause)
        yield


@pytest.fixture(scope="module", params=[FEW, pytest.param(MANY, marks=pytest.mark.soak)])
def run(unslowed: None, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Asked:
    cases: int = request.param
    directory = tmp_path_factory.mktemp("fuzz")
    options = ("--max-examples", str(EXAMPLES[cases]))
    single = SINGLE if cases == MANY else ("fuzzing",)
    with StagedDaemon() as daemon:
        create_resources(daemon.client, RESOURCES)
        asked = [
            subprocess.run(
                run.line,
                cwd=directory,
                env=os.environ | run.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            for run in runs(
                daemon.client,
                daemon.url,
                daemon.token,
                directory,
                RESOURCES | DENIED,
                *options,
                single=single,
            )
        ]
    return Asked(
        cases, daemon, all(each.returncode == 0 for each in asked), "\n".join(each.stdout for each in asked)
    )


def test_no_answer_is_outside_the_document(run: Asked) -> None:
    assert run.well, run.said


def test_there_were_enough_cases(run: Asked) -> None:
    assert run.daemon.answers.total() >= run.cases


@pytest.mark.parametrize("operation", sorted(ROLES.keys() - WITHOUT_ANSWERS))
def test_each_operation_was_reached(run: Asked, operation: str) -> None:
    """A fuzz that is always refused finds nothing."""
    assert any(each == operation and status < 300 for each, status in run.daemon.answers), run.said


def test_nothing_broke_on_the_way(run: Asked, caplog: pytest.LogCaptureFixture) -> None:
    stage = run.daemon.stage

    assert run.daemon.failures == []
    assert [record for record in caplog.get_records("setup") if record.levelname == "ERROR"] == []
    assert stage.reconciler.drift_repaired == 0
    assert stage.reconciler.problems() == []
    assert {name: [each.name for each in plan.members] for name, plan in stage.plane.plans.items()} == {
        name: list(spec.backends) for name, spec in stage.wanted().items()
    }
