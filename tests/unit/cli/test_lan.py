# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector lan`, and what `status` says of the network, against the API on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.cli import main
from xdpdirector.lan.types import Finding, FindingKind

FINDING = Finding(
    kind=FindingKind.VIP_MISSING,
    subject="web/web1",
    text="backend web/web1 (192.0.2.21) does not have the VIP 192.0.2.10",
    evidence="it was silent 3 times",
    remedy="ip address add 192.0.2.10/32 dev lo",
    since=datetime(2025, 1, 1, 12, tzinfo=UTC),
    backends=("web/web1",),
)


@pytest.fixture
def director(tmp_path: Path) -> Iterator[FakeDirector]:
    director = FakeDirector()
    with ApiServer(director, tmp_path / "api.sock"):
        yield director


def test_a_finding_is_shown_with_evidence_and_remedy(
    director: FakeDirector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    director.lan.findings = (FINDING,)

    status = main(["--socket", str(tmp_path / "api.sock"), "lan"])

    shown = capsys.readouterr().out
    assert status == 1
    assert all(words in shown for words in (FINDING.text, FINDING.evidence, FINDING.remedy, "1 finding"))


def test_without_a_finding_all_is_well(
    director: FakeDirector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--socket", str(tmp_path / "api.sock"), "lan"])

    assert status == 0
    assert "0 findings" in capsys.readouterr().out


def test_status_has_a_line_for_each_warning(
    director: FakeDirector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    director.warnings = (FINDING.text,)

    status = main(["--socket", str(tmp_path / "api.sock"), "status"])

    shown = capsys.readouterr().out
    assert status == 0
    assert f"! {FINDING.text}" in shown
    assert "xdpdirector doctor" in shown
