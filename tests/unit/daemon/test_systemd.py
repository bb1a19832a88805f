# SPDX-License-Identifier: Apache-2.0
"""What systemd hears of the daemon: on a socket of the test's, as sd_notify(3) has it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from xdpdirector.daemon.systemd import BEAT, Supervisor

PATIENCE = 10.0


@pytest.fixture(params=["in the file system", "abstract"])
def heard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """systemd's end, and the address of it as the environment has it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{path}" if request.param == "abstract" else path)
        listening.settimeout(PATIENCE)
        yield listening, f"@{path}" if request.param == "abstract" else path


def fields(listening: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in listening.recv(4096).decode().splitlines())


def test_states_are_told(heard: tuple[socket.socket, str]) -> None:
    listening, address = heard
    supervisor = Supervisor.of({"NOTIFY_SOCKET": address})

    supervisor.ready()
    supervisor.reloading()
    supervisor.stopping()

    assert fields(listening) == {"READY": "1"}
    reloading = fields(listening)
    assert reloading["RELOADING"] == "1"
    assert 0 < int(reloading["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    assert fields(listening) == {"STOPPING": "1"}


def test_a_loop_that_turns_gives_signs_of_life_and_one_that_hangs_gives_none(
    heard: tuple[socket.socket, str],
) -> None:
    listening, address = heard
    supervisor = Supervisor(address, beat=0.01)

    async def live() -> None:
        living = asyncio.create_task(supervisor.live(lambda: "3 services"))
        loop = asyncio.get_running_loop()
        for _ in range(3):
            assert await loop.run_in_executor(None, fields, listening) == {
                "WATCHDOG": "1",
                "STATUS": "3 services",
            }
        while True:  # what was said before the loop hung
            with contextlib.suppress(BlockingIOError):
                listening.setblocking(False)
                listening.recv(4096)
                continue
            break
        time.sleep(0.1)  # ten beats
        with pytest.raises(BlockingIOError):
            listening.recv(4096)
        living.cancel()

    asyncio.run(live())


def test_a_daemon_whose_work_stands_still_gives_no_signs_of_life(heard: tuple[socket.socket, str]) -> None:
    listening, address = heard
    sound = iter([True, False])

    async def live() -> None:
        living = asyncio.create_task(
            Supervisor(address, beat=0.01).live(lambda: "1", lambda: next(sound, False))
        )
        loop = asyncio.get_running_loop()
        said = [await loop.run_in_executor(None, fields, listening) for _ in range(3)]
        living.cancel()
        assert said == [{"STATUS": "1", "WATCHDOG": "1"}, {"STATUS": "1"}, {"STATUS": "1"}]

    asyncio.run(live())


def test_a_status_that_cannot_be_told_is_no_reason_to_be_killed(heard: tuple[socket.socket, str]) -> None:
    listening, address = heard

    def status() -> str:
        raise OSError(24, "Too many open files")

    async def live() -> None:
        living = asyncio.create_task(Supervisor(address, beat=0.01).live(status))
        said = await asyncio.get_running_loop().run_in_executor(None, fields, listening)
        living.cancel()
        assert said["WATCHDOG"] == "1"
        assert "Too many open files" in said["STATUS"]

    asyncio.run(live())


@pytest.mark.parametrize(
    ("environment", "beat"),
    [
        ({}, BEAT),
        ({"NOTIFY_SOCKET": "/run/notify"}, BEAT),
        ({"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "17"}, 10.0),
    ],
    ids=["by hand", "no watchdog", "a watchdog of 30 s"],
)
def test_children_are_not_to_speak_for_it(environment: dict[str, str], beat: float) -> None:
    supervisor = Supervisor.of(environment)

    assert supervisor.beat == pytest.approx(beat)
    assert environment == {}


def test_started_by_nobody_it_says_nothing() -> None:
    supervisor = Supervisor.of({})

    supervisor.ready()
    asyncio.run(asyncio.wait_for(supervisor.live(lambda: "never asked"), PATIENCE))


def test_a_socket_that_is_gone_is_told_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor(str(tmp_path / "gone"))

    with caplog.at_level(logging.WARNING):
        supervisor.ready()

    assert "systemd could not be told 'READY=1': No such file" in caplog.text
