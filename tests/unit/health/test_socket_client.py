# SPDX-License-Identifier: Apache-2.0
"""The process that makes the checks' sockets: what it gives, and what becomes of that when it stalls or ends."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import children, is_alive
from xdpdirector.daemon import drop_privileges
from xdpdirector.health import socket_client, socket_helper
from xdpdirector.health.socket_client import GivenNamespace, Helper
from xdpdirector.lab.waiting import wait_until

PATIENCE, DEADLINE = 0.2, 20.0
KINDS = [
    (socket.AF_INET, socket.SOCK_STREAM),
    (socket.AF_INET, socket.SOCK_DGRAM),
    (socket.AF_INET6, socket.SOCK_DGRAM),
    (socket.AF_INET6, socket.SOCK_STREAM),
]


def start(channel: socket.socket) -> subprocess.Popen[bytes]:
    """As root starts it."""
    command = [sys.executable, "-m", "xdpdirector.health.socket_helper", str(channel.fileno())]
    return subprocess.Popen(command, pass_fds=[channel.fileno()], stdin=subprocess.DEVNULL)


def start_as_systemd(channel: socket.socket) -> subprocess.Popen[bytes]:
    """As xdpdirector-checks@.service: the channel is its standard input."""
    return subprocess.Popen([sys.executable, "-m", "xdpdirector.health.socket_helper", "0"], stdin=channel)


class Started:
    """A helper of two processes, at most one channel long."""

    def __init__(self, start: Callable[[socket.socket], subprocess.Popen[bytes]] = start) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self._start = start

    def connect(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.processes.append(self._start(theirs))
        return ours

    @property
    def keeper(self) -> int:
        return self.processes[-1].pid

    def serving(self) -> int:
        """Its only child; 0 between two of them."""
        return next(iter(children(self.keeper)), 0)


@asynccontextmanager
async def helped(
    started: Started, connect: Callable[[], socket.socket] | None = None, patience: float = PATIENCE
) -> AsyncIterator[tuple[Helper, GivenNamespace]]:
    helper = Helper(connect or started.connect, patience=patience)
    try:
        yield helper, await helper.enter()
    finally:
        helper.close()
        for process in started.processes:
            with suppress(ChildProcessError):
                await asyncio.to_thread(process.wait, DEADLINE)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


async def made(inside: GivenNamespace, family: int, kind: int) -> tuple[int, int]:
    with await inside.make(family, kind | socket.SOCK_NONBLOCK) as opened:
        assert not opened.getblocking()
        assert not opened.get_inheritable()
        return opened.family, opened.type


async def makes_again(inside: GivenNamespace) -> None:
    """Within the deadline; each answer is to its own question."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                assert await made(inside, *KINDS[0]) == KINDS[0]
            except OSError:
                await asyncio.sleep(0.01)
            else:
                break
    for kind in KINDS:
        assert await made(inside, *kind) == kind


def run(story: Coroutine[Any, Any, None]) -> None:
    """At the end the process has as many descriptors as before; a thread may still be closing its own."""
    before = descriptors()
    asyncio.run(story)
    wait_until(lambda: descriptors() == before, "all descriptors are closed", DEADLINE)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("begin", [start, start_as_systemd], ids=["as root does", "as systemd does"])
def test_it_gives_what_is_asked_for_many_at_once(
    begin: Callable[[socket.socket], subprocess.Popen[bytes]],
) -> None:
    async def story() -> None:
        async with helped(Started(begin)) as (_, inside):
            asked = KINDS * 50
            assert await asyncio.gather(*(made(inside, *kind) for kind in asked)) == asked

    run(story())


def test_what_the_kernel_refuses_is_told_and_disturbs_no_other() -> None:
    async def story() -> None:
        async with helped(Started()) as (_, inside):
            with pytest.raises(OSError, match="Invalid argument") as refused:
                await inside.make(socket.AF_INET, 99)
            assert refused.value.errno == errno.EINVAL
            assert await made(inside, *KINDS[2]) == KINDS[2]

    run(story())


def test_a_late_answer_is_not_taken_for_the_next_ones() -> None:
    """Who stalls is ended; what it did not answer before is not answered with somebody else's socket."""

    async def story() -> None:
        started = Started()
        async with helped(started) as (_, inside):
            await until(started.serving)
            stalled = started.serving()
            os.kill(stalled, signal.SIGSTOP)
            with pytest.raises(OSError, match="does not answer"):
                await made(inside, socket.AF_INET6, socket.SOCK_STREAM)
            await until(lambda: started.serving() not in (0, stalled))
            await makes_again(inside)

    run(story())


def test_one_that_only_stood_still_for_a_moment_answers_each_with_its_own() -> None:
    async def story() -> None:
        started = Started()
        helper = Helper(started.connect, patience=DEADLINE)
        inside = await helper.enter()
        await until(started.serving)
        os.kill(started.serving(), signal.SIGSTOP)
        hasty = asyncio.create_task(made(inside, socket.AF_INET6, socket.SOCK_STREAM))
        await asyncio.sleep(0)
        hasty.cancel()
        patient = [asyncio.create_task(made(inside, *kind)) for kind in KINDS[:3]]
        await asyncio.sleep(0)
        os.kill(started.serving(), signal.SIGCONT)
        assert await asyncio.gather(*patient) == KINDS[:3]
        with pytest.raises(asyncio.CancelledError):
            await hasty
        helper.close()
        await asyncio.to_thread(started.processes[0].wait, DEADLINE)

    run(story())


@pytest.mark.parametrize("signals", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
@pytest.mark.parametrize("half", ["serving", "keeper"])
def test_either_half_survives_the_other(half: str, signals: signal.Signals) -> None:
    """And again: the one that is left starts another one."""

    async def story() -> None:
        started = Started()
        async with helped(started) as (_, inside):
            for _ in range(3):
                await until(started.serving)
                keeper, serving = started.keeper, started.serving()
                os.kill(serving if half == "serving" else keeper, signals)
                await makes_again(inside)
                if half == "keeper":
                    break  # its successor is nobody's child that we know
                await until(lambda before=serving: started.serving() not in (0, before))
            assert not inside.lost

    run(story())


def test_that_another_process_serves_now_is_noted_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        started = Started()
        async with helped(started) as (_, inside):
            await until(started.serving)
            assert inside.note() == ""
            os.kill(started.serving(), signal.SIGKILL)
            await until(inside.note)
            assert "ended, and another one makes them now" in inside.note()
            monkeypatch.setattr(socket_client, "NOTED_FOR", 0.0)
            await until(lambda: not inside.note())

    run(story())


def test_all_that_is_left_of_it_goes_with_the_channel() -> None:
    async def story() -> None:
        started = Started()
        async with helped(started) as (_, inside):
            await until(started.serving)
            first = started.serving()
            os.kill(started.keeper, signal.SIGKILL)
            await until(lambda: children(first))
            await makes_again(inside)
            (second,) = children(first)
        await until(lambda: not any(is_alive(each) for each in (first, second)))

    run(story())


def test_where_another_one_can_be_had_it_is() -> None:
    """As with systemd, which starts one for who connects: with another namespace, so that all is made anew."""

    async def story() -> None:
        started = Started()
        async with helped(started) as (helper, inside):
            await until(started.serving)
            os.kill(started.keeper, signal.SIGSTOP)  # so that it starts nobody
            os.kill(started.serving(), signal.SIGKILL)
            os.kill(started.keeper, signal.SIGKILL)
            await until(lambda: inside.lost)
            with pytest.raises(OSError, match="is gone"):
                await inside.make(socket.AF_INET, socket.SOCK_STREAM)
            async with asyncio.timeout(DEADLINE):
                while True:
                    try:
                        other = await helper.enter()
                    except OSError:
                        await asyncio.sleep(0.01)
                    else:
                        break
            assert other is not inside
            await makes_again(other)

    run(story())


def test_where_no_other_one_can_be_had_everybody_is_told() -> None:
    async def story() -> None:
        started = Started()
        channels = [started.connect()]
        async with helped(started, lambda: drop_privileges._only_once(channels)) as (helper, inside):
            await until(started.serving)
            os.kill(started.keeper, signal.SIGSTOP)
            os.kill(started.serving(), signal.SIGSTOP)
            asked = asyncio.create_task(made(inside, *KINDS[0]))
            await asyncio.sleep(0)
            os.kill(started.serving(), signal.SIGKILL)
            os.kill(started.keeper, signal.SIGKILL)
            with pytest.raises(OSError, match=r"is gone|does not answer"):
                await asked
            await until(lambda: inside.lost)
            helper._tried = None
            with pytest.raises(OSError, match="restart the daemon, which packets do not notice"):
                await helper.enter()

    run(story())


def test_a_process_without_descriptors_is_told_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with helped(Started()) as (_, inside):
            with no_descriptors(), pytest.raises(OSError, match="Too many open files") as failed:
                await inside.make(*KINDS[0])
            assert failed.value.errno == errno.EMFILE
            assert await made(inside, *KINDS[1]) == KINDS[1]

    run(story())


def test_it_waits_for_descriptors_at_its_beginning_too() -> None:
    async def story() -> None:
        started = Started()
        helper = Helper(started.connect, patience=PATIENCE, birth=PATIENCE)
        helper._open()
        with no_descriptors():
            await until(lambda: helper._pids != (0, 0))
            assert helper._namespace is None
        async with asyncio.timeout(DEADLINE):
            inside = await helper.enter()
        assert await made(inside, *KINDS[1]) == KINDS[1]
        helper.close()
        await asyncio.to_thread(started.processes[0].wait, DEADLINE)

    run(story())


@contextmanager
def no_descriptors() -> Iterator[None]:
    """None that is free is below the limit."""
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_helper_that_does_not_start_is_not_waited_for_for_ever() -> None:
    async def story() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            helper = Helper(lambda: ours, birth=PATIENCE)
            with pytest.raises(OSError, match="does not start"):
                await helper.enter()
            helper.close()

    run(story())


def test_the_loop_goes_on_while_it_stalls() -> None:
    async def story() -> None:
        started, turns = Started(), 0
        async with helped(started) as (_, inside):
            await until(started.serving)
            os.kill(started.serving(), signal.SIGSTOP)
            asked = asyncio.create_task(made(inside, *KINDS[0]))
            while not asked.done():
                turns += 1
                await asyncio.sleep(0.001)
            assert isinstance(asked.exception(), OSError)
            assert turns > 10

    run(story())


def test_one_that_took_over_is_not_killed_for_the_one_before() -> None:
    async def story() -> None:
        started = Started()
        async with helped(started) as (_, inside):
            await until(started.serving)
            stalled = started.serving()
            os.kill(stalled, signal.SIGSTOP)
            first = asyncio.create_task(made(inside, *KINDS[0]))
            await asyncio.sleep(PATIENCE / 2)
            second = asyncio.create_task(made(inside, *KINDS[1]))
            await asyncio.wait({first, second}, timeout=DEADLINE)
            assert isinstance(first.exception(), OSError)
            assert second.result() == KINDS[1]
            assert started.serving() not in (0, stalled)

    run(story())


def test_one_that_is_slow_but_sure_is_not_killed_again_and_again() -> None:
    patience = 2.0

    async def story() -> None:
        started = Started()
        async with helped(started, patience=patience) as (_, inside):
            await until(started.serving)
            os.kill(started.serving(), signal.SIGSTOP)
            with pytest.raises(OSError, match="does not answer"):
                await made(inside, *KINDS[0])
            await makes_again(inside)
            slow = started.serving()
            os.kill(slow, signal.SIGSTOP)
            asyncio.get_running_loop().call_later(patience * 5 / 4, os.kill, slow, signal.SIGCONT)
            assert await made(inside, *KINDS[1]) == KINDS[1]
            assert started.serving() == slow

    run(story())


def test_one_comes_from_whoever_listens_there(tmp_path: Path) -> None:
    """As systemd does it: a helper for who connects, its channel as standard input."""
    path = tmp_path / "checks.sock"

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                socket_helper.serve(connection)

    async def story() -> None:
        helper = Helper(lambda: drop_privileges.called(path))
        inside = await helper.enter()
        assert await made(inside, *KINDS[2]) == KINDS[2]
        helper.close()

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(path))
        listening.listen()
        serving = threading.Thread(target=serve)
        serving.start()
        run(story())
        listening.shutdown(socket.SHUT_RDWR)
        serving.join(timeout=DEADLINE)
    assert not serving.is_alive()
    assert time.monotonic() > socket_client.APART
