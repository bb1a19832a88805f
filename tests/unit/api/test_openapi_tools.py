# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document before the programs of others: linters find no fault, and what generators make works."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from dev import openapi_contract as contract
from tests.support.staged_daemon import StagedDaemon

pytestmark = pytest.mark.network

CHECKOUT = Path(__file__).parents[3]
TOOLS = CHECKOUT / ".lab" / "openapi"
PATIENCE = 600.0  # seconds, on a busy machine
UNAVAILABLE = 69  # sysexits.h
SPECTRAL = 'extends: ["spectral:oas"]\n'
# A use of what openapi-typescript makes: it is not run, it is to have the right types.
TYPESCRIPT = """\
import type { components, operations, paths } from "./director";

type Service = components["schemas"]["ServiceView"];
type Wanted = paths["/v1/services/{service}"]["put"]["requestBody"]["content"]["application/json"];
type Dry = operations["delete_backend"]["parameters"]["query"];

const configuration: components["schemas"]["Configuration"] = {
  interfaces: ["eth0"],
  services: { web: { listeners: ["192.0.2.10:80/tcp"], backends: { web1: { address: "192.0.2.21", weight: 2 } } } },
};
export const dry: Dry = { dry_run: true, force: false };
export const wanted: Wanted = { listeners: ["192.0.2.10:80/tcp"], scheduler: "wlc" };
export const weights = (view: Service): number[] => view.backends.map((backend) => backend.weight);
export const web = configuration.services?.["web"]?.backends?.["web1"]?.address;
// @ts-expect-error: it is no scheduler
export const wrong: Wanted = { listeners: ["192.0.2.10:80/tcp"], scheduler: "best" };
"""


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    """A machine with a mirror of pip's index alone has no way to Node's programs: then that is said."""
    brought = subprocess.run(
        [str(CHECKOUT / "tools" / "openapi-tools")],
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if brought.returncode == UNAVAILABLE:
        pytest.skip(brought.stderr.splitlines()[-1])
    assert brought.returncode == 0, brought.stderr


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In a directory of its own."""
    path = tmp_path_factory.mktemp("openapi") / "openapi.json"
    path.write_text(contract.text(contract.current()))
    return path


def run(*line: str, at: Path, **environment: str) -> str:
    """What it prints; AssertionError with that when it fails."""
    path = f"{TOOLS}/python/bin:{os.environ['PATH']}"
    done = subprocess.run(
        line,
        cwd=at,
        env={**os.environ, "PATH": path, "REDOCLY_TELEMETRY": "off", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def node(program: str, *arguments: str, at: Path) -> str:
    return run("node", str(TOOLS / "node_modules" / ".bin" / program), *arguments, at=at)


def test_redocly_finds_nothing(document: Path) -> None:
    said = node("redocly", "lint", "--max-problems=1000", document.name, at=document.parent)

    assert "warning" not in said.lower(), said


def test_spectral_finds_nothing(document: Path) -> None:
    (document.parent / "spectral.yaml").write_text(SPECTRAL)

    arguments = ("--ruleset", "spectral.yaml", "--fail-severity", "hint", document.name)
    said = node("spectral", "lint", *arguments, at=document.parent)

    assert "No results" in said


@pytest.fixture(scope="module")
def client(document: Path) -> Path:
    """Where the generated client is; a generator that leaves something out says so."""
    said = run(
        str(TOOLS / "python/bin/openapi-python-client"),
        *("generate", "--meta", "none", "--path", document.name, "--output-path", "made/xdp_director_client"),
        at=_made(document.parent),
    )
    assert "WARNING" not in said.upper(), said
    return document.parent / "made"


def _made(place: Path) -> Path:
    (place / "made").mkdir()
    return place


def test_an_operators_day_through_the_generated_client(client: Path) -> None:
    with StagedDaemon() as daemon:
        python, day = str(TOOLS / "python/bin/python"), str(CHECKOUT / "tests/support/generated_client.py")
        run(python, day, daemon.url, daemon.token, at=client, PYTHONPATH=str(client))

    assert daemon.failures == []


def test_types_for_typescript(document: Path, tmp_path: Path) -> None:
    shutil.copy(document, tmp_path / "openapi.json")
    (tmp_path / "use.ts").write_text(TYPESCRIPT)

    made = ("--default-non-nullable=false", "--output", "director.d.ts")  # what has a default may be left out
    node("openapi-typescript", "openapi.json", *made, at=tmp_path)
    node(
        "tsc",
        "--noEmit",
        "--strict",
        "--target",
        "es2022",
        "--moduleResolution",
        "bundler",
        "--module",
        "esnext",
        "use.ts",
        at=tmp_path,
    )
