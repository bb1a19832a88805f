# SPDX-License-Identifier: Apache-2.0
"""Wrong tokens: told of, but not each, and slowed down."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.auth import auditing
from xdpdirector.api.auth.failed_logins import (
    ADDRESSES,
    FORGIVEN,
    LONGEST_DELAY,
    REPORT_INTERVAL,
    TRIES,
    FailedLogins,
)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_address_is_told_of_at_once_and_then_now_and_then() -> None:
    time = Time()
    failed_logins = FailedLogins(time)

    told = [failed_logins.failed("192.0.2.1").report for _ in range(5)] + [
        failed_logins.failed("192.0.2.2").report
    ]
    time.now += REPORT_INTERVAL
    later = failed_logins.failed("192.0.2.1").report

    assert told == [1, 0, 0, 0, 0, 1]
    assert later == 5
    assert failed_logins.failures == 7


def test_who_goes_on_waits_longer_and_longer() -> None:
    failed_logins = FailedLogins(Time())

    delays = [failed_logins.failed("192.0.2.1").delay for _ in range(60)]

    assert delays[:TRIES] == [0] * TRIES
    assert delays[TRIES:] == sorted(delays[TRIES:])
    assert 0 < delays[TRIES] < delays[-1] == LONGEST_DELAY


def test_who_stops_is_forgiven() -> None:
    time = Time()
    failed_logins = FailedLogins(time)
    for _ in range(TRIES + 5):
        failed_logins.failed("192.0.2.1")

    time.now += (TRIES + 5) * FORGIVEN

    assert failed_logins.failed("192.0.2.1").delay == 0


def test_a_bounded_number_of_addresses_is_remembered() -> None:
    failed_logins = FailedLogins(Time())
    for number in range(ADDRESSES + 10):
        failed_logins.failed(str(number))

    assert len(failed_logins) == ADDRESSES


def test_wrong_tokens_are_in_log_audit_and_metrics(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(auditing, "pause", sleep)
    with ApiServer(FakeDirector(), tmp_path / "api.sock") as server:
        statuses = {server.status("/v1/services", authorization="Bearer xdpd_0_wrong") for _ in range(60)}
        rows = server.client.get("/v1/audit", {"author": "unknown"})["items"]
        metrics = server.client.get("/metrics")

    assert statuses == {401}
    said = [(row["outcome"], row["status"], row["operation"]) for row in rows]
    assert said == [("refused", 401, "list_services")]
    assert "requests without a valid token from uid" in rows[0]["detail"]
    assert caplog.text.count("requests without a valid token") == 1
    assert "\nxdpdirector_api_authentication_failures_total 60\n" in metrics
    assert len(slept) == 60 - TRIES
