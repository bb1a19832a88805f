# SPDX-License-Identifier: Apache-2.0
"""Gets sockets of a network namespace that another process holds (`socket_helper`): the daemon's end of the
channel.

Waits only on the event loop. A helper that does not answer in time is killed, so that its sibling starts
another one in the same namespace; if both are gone, a new namespace is requested where possible. Failures
here are the director's own: OSError.

On a busy machine a new helper is no remedy, as its start takes more than the answer would have. So the time for an
answer grows with the slowest one of late, and is doubled with each helper that was killed, as TCP does (RFC 6298).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import struct
from collections.abc import Callable
from itertools import count

from xdpdirector.health.socket_helper import ANSWER, REQUEST, SERVING

PATIENCE = 1.0  # seconds to wait for an answer, where answers are not slow
SLOWER = 4  # an answer may take so many times as long as a former one
HALVED = 60.0  # seconds after which a longer time to wait has become half as long
BIRTH = 30.0  # seconds until a new helper must serve
NOTED_FOR = 10.0  # seconds for which `note` reports a new helper
APART = 1.0  # seconds between two attempts to get a new helper
DESCRIPTORS = 2  # most descriptors in one answer
_THE_HELPER = "the process that makes the checks' sockets"
_NUMBERS = (1 << 32) - 1
_INT = struct.Struct("i")

log = logging.getLogger(__name__)


class GivenNamespace:
    """See `xdpdirector.health.check_namespace.Inside`."""

    def __init__(self, fd: int, helper: Helper) -> None:
        self.fd, self._helper = fd, helper
        self.lost = False

    async def make(self, family: int, kind: int, protocol: int = 0, /) -> socket.socket:
        if self.lost:
            raise _gone()
        made = socket.socket(fileno=await self._helper.ask(family, kind, protocol))
        made.setblocking(not kind & socket.SOCK_NONBLOCK)
        return made

    def note(self) -> str:
        return self._helper.note()

    def close(self) -> None:
        """Close the namespace; the helper stays, for the next user."""

    def lose(self) -> None:
        """Mark the namespace as lost, with its helper."""
        self.lost = True
        os.close(self.fd)


class Helper:
    """`connect` makes the daemon's end of a new channel; OSError if there is no further one. Runs on one
    loop."""

    def __init__(
        self, connect: Callable[[], socket.socket], *, patience: float = PATIENCE, birth: float = BIRTH
    ) -> None:
        self._connect, self._least, self._birth = connect, patience, birth
        self._patience, self._patient_since = patience, 0.0
        self._channel: socket.socket | None = None
        self._tried: float | None = None
        self._news = asyncio.Event()  # set when the namespace becomes available or is lost
        self._namespace: GivenNamespace | None = None
        self._serving: int | None = None  # a pidfd
        self._pids = (0, 0)
        self._changed: float | None = None
        self._numbers = count(1)
        self._pending: dict[int, tuple[bytes, asyncio.Future[int]]] = {}

    async def enter(self) -> GivenNamespace:
        """The namespace, once a helper serves. OSError."""
        if self._channel is None:
            self._open()
        elif self._namespace is None:
            self._send(REQUEST.pack(SERVING, 0, 0, 0))
        try:
            async with asyncio.timeout(self._birth):
                while self._channel and self._namespace is None:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise OSError(errno.ETIMEDOUT, f"{_THE_HELPER} does not start") from None
        if self._namespace is None:
            raise _gone()
        return self._namespace

    async def ask(self, family: int, kind: int, protocol: int) -> int:
        """The descriptor of a new socket. OSError: the helper's error, or no answer."""
        number = 1 + next(self._numbers) % _NUMBERS
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        request = REQUEST.pack(number, family, kind, protocol)
        self._pending[number] = request, answer
        try:
            self._send(request)
            async with asyncio.timeout(self._birth):
                await self._answered(answer)
            return answer.result()
        except BaseException as error:
            if answer.done() and not answer.cancelled() and not answer.exception():
                os.close(answer.result())
            if not isinstance(error, TimeoutError):
                raise
            raise OSError(errno.ETIMEDOUT, f"{_THE_HELPER} does not answer") from None
        finally:
            del self._pending[number]

    async def _answered(self, answer: asyncio.Future[int]) -> None:
        """TimeoutError when the helper that serves does not answer in time; it is killed. One that has taken over
        meanwhile got the request again, and has its own time."""
        loop = asyncio.get_running_loop()
        while not answer.done():
            asked, asked_at, patience = self._pids[0], loop.time(), self._patience_at(loop.time())
            await asyncio.wait({answer}, timeout=patience)
            now = loop.time()
            if answer.done():
                self._be_patient(max(self._patience_at(now), SLOWER * (now - asked_at)), now)
            elif self._serving is not None and asked == self._pids[0]:  # neither killed nor succeeded
                self._be_patient(2 * patience, now)
                self._end_it()
                raise TimeoutError

    def _patience_at(self, now: float) -> float:
        """Seconds; `now`: of the loop's clock."""
        grown: float = self._patience * 0.5 ** ((now - self._patient_since) / HALVED)
        return max(self._least, grown)

    def _be_patient(self, seconds: float, now: float) -> None:
        self._patience, self._patient_since = min(seconds, self._birth / 2), now

    def note(self) -> str:
        """A note for a while after another process began to make the sockets; else empty."""
        if self._changed is None or asyncio.get_running_loop().time() > self._changed + NOTED_FOR:
            return ""
        return f"{_THE_HELPER} ended, and another one makes them now; verdicts stay as they were"

    def close(self) -> None:
        """Close the channel."""
        if self._channel:
            self._lose()

    # The channel

    def _open(self) -> None:
        loop = asyncio.get_running_loop()
        if self._tried is not None and loop.time() < self._tried + APART:
            raise _gone()
        self._tried = loop.time()
        self._channel = self._connect()
        self._channel.setblocking(False)
        loop.add_reader(self._channel, self._hear)

    def _send(self, request: bytes) -> None:
        if self._channel is None:
            raise _gone()
        try:
            self._channel.send(request)
        except BlockingIOError:
            raise OSError(errno.ENOBUFS, f"{_THE_HELPER} does not listen") from None

    def _hear(self) -> None:
        assert self._channel
        try:
            said, descriptors = _received(self._channel)
        except BlockingIOError:
            return
        except OSError:
            said, descriptors = b"", []
        if not said:
            log.error("%s is gone", _THE_HELPER)
            self._lose()
            return
        number, error, *pids = ANSWER.unpack(said)
        if number == SERVING:
            self._see(pids[0], pids[1], descriptors)
        else:
            self._take(number, error, descriptors)

    def _see(self, process: int, keeper: int, descriptors: list[int]) -> None:
        """Process answer 0: which process serves now."""
        before, self._pids = self._pids, (process, keeper)
        if len(descriptors) < DESCRIPTORS:  # this process ran out of descriptors; `enter` asks again
            _close(descriptors)
        else:
            namespace, self._serving = descriptors[0], _instead(self._serving, descriptors[1])
            if self._namespace:
                os.close(namespace)
            else:
                self._namespace = GivenNamespace(namespace, self)
        self._news.set()
        if before[0] not in (0, process):
            log.warning("another process makes the checks' sockets now")
            self._changed = asyncio.get_running_loop().time()
            if before[1] != keeper:
                _reap(before[1])
            for request, _ in self._pending.values():  # requests of the previous helper may be lost
                with contextlib.suppress(OSError):
                    self._send(request)

    def _take(self, number: int, error: int, descriptors: list[int]) -> None:
        _, answer = self._pending.get(number, (b"", None))
        if answer is None or answer.done():  # late or duplicate answer
            _close(descriptors)
        elif error:
            answer.set_exception(OSError(error, os.strerror(error)))
        elif not descriptors:  # out of descriptors when it was received
            answer.set_exception(OSError(errno.EMFILE, os.strerror(errno.EMFILE)))
        else:
            answer.set_result(descriptors[0])

    def _end_it(self) -> None:
        """Kill a helper that does not answer: its sibling starts another one."""
        if self._serving is not None:
            log.warning("%s does not answer: killing it", _THE_HELPER)
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._serving, signal.SIGKILL)
            self._serving = _instead(self._serving, None)

    def _lose(self) -> None:
        assert self._channel
        asyncio.get_running_loop().remove_reader(self._channel)
        self._channel.close()
        self._channel = None
        if self._namespace:
            self._namespace.lose()
        self._namespace, self._serving = None, _instead(self._serving, None)
        _reap(self._pids[1])
        self._pids = (0, 0)
        self._news.set()
        for _, answer in self._pending.values():
            if not answer.done():
                answer.set_exception(_gone())


def _received(channel: socket.socket) -> tuple[bytes, list[int]]:
    """As socket.recv_fds, which in Python 3.11 ignores its flags: received descriptors must be close-on-exec
    from the start."""
    said, more, _, _ = channel.recvmsg(
        ANSWER.size, socket.CMSG_SPACE(DESCRIPTORS * _INT.size), socket.MSG_CMSG_CLOEXEC
    )
    return said, [
        descriptor
        for level, kind, data in more
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (descriptor,) in _INT.iter_unpack(data[: len(data) // _INT.size * _INT.size])
    ]


def _gone() -> OSError:
    return OSError(errno.ECONNRESET, f"{_THE_HELPER} is gone")


def _instead(before: int | None, now: int | None) -> int | None:
    if before is not None:
        os.close(before)
    return now


def _close(descriptors: list[int]) -> None:
    for each in descriptors:
        os.close(each)


def _reap(keeper: int) -> None:
    """Reap the process that root started: it is a child of this process."""
    if keeper:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(keeper, os.WNOHANG)
