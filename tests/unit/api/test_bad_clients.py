# SPDX-License-Identifier: Apache-2.0
"""Clients that nobody wants, over raw sockets: slow ones, deaf ones, loud ones, crowds."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import PLENTY, ApiServer
from tests.support.fake_director import FakeDirector
from tests.support.loopback_certificate import made
from xdpdirector.api.auth.rate_limit import AT_ONCE
from xdpdirector.api.http.body_limit import LARGEST_BODY
from xdpdirector.api.server import tls
from xdpdirector.api.server.connection import LARGEST_HEAD, Timeouts
from xdpdirector.api.server.connection_limits import ConnectionLimits
from xdpdirector.api.server.server import ListeningSocket
from xdpdirector.model.access import ApiSpec, Role, TlsSpec
from xdpdirector.storage.tokens import TokenSpec

DEADLINE = 60.0  # on a busy machine
IMPATIENT = Timeouts(request=0.3, answer=0.5, idle=1, handshake=0.3)
SMALL = ConnectionLimits(tcp=6, address=4, unauthenticated=6, unix=3, user=3, reserved=0)
HEAD = b"POST /v1/services HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LIVENESS = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
MiB = 1 << 20


class House:
    """The API on the unix socket, on TCP and on TLS, with little patience and little room."""

    def __init__(self, server: ApiServer, tcp: socket.socket, tls: socket.socket, token: str) -> None:
        self.server, self.token = server, token
        self.tcp, self.tls = tcp.getsockname(), tls.getsockname()

    def unix(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(DEADLINE)
        connection.connect(str(self.server.path))
        return connection

    def over_tcp(self, address: Any = None, source: str = "127.0.0.1") -> socket.socket:
        return socket.create_connection(address or self.tcp, DEADLINE, source_address=(source, 0))

    def is_well(self) -> bool:
        return bool(self.server.client.get("/healthz") == {"status": "ok"})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory, IMPATIENT) as house:
        yield house


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Whoever is in may stay: it is as small, but sends nobody away for being slow."""
    with opened(tmp_path_factory, Timeouts()) as house:
        yield house


@contextlib.contextmanager
def opened(tmp_path_factory: pytest.TempPathFactory, timeouts: Timeouts) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("bad")
    certificate = made(directory, "director")
    tcp, secure = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    listening_sockets = [
        ListeningSocket(tcp),
        ListeningSocket(secure, tls.context(TlsSpec(**certificate._asdict()))),
    ]
    limits = {"timeouts": timeouts, "limits": SMALL}
    director = FakeDirector()
    with ApiServer(director, directory / "api.sock", PLENTY, listening_sockets, **limits) as server:
        _, token = server.access.tokens.add(TokenSpec(name="reader", role=Role.READ))
        yield House(server, tcp, secure, token)


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other end closes; a reset ends it too."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            data += piece
    return data


def problem(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    document: dict[str, Any] = json.loads(body)
    assert str(document["status"]).encode() in head.split(b"\r\n")[0]
    return document


def test_a_head_that_does_not_end_is_given_up(house: House) -> None:
    with house.unix() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")

        assert problem(rest(connection))["status"] == 408
    assert house.is_well()


def test_a_head_that_comes_letter_by_letter_is_given_up(house: House) -> None:
    with house.unix() as connection:
        connection.settimeout(0.02)
        answer, until = b"", time.monotonic() + DEADLINE
        while not answer and time.monotonic() < until:
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)

    assert problem(answer)["status"] == 408


def test_somebody_who_says_nothing_is_sent_away(house: House) -> None:
    with house.unix() as connection:
        assert problem(rest(connection))["status"] == 408


def test_a_body_that_does_not_come_is_given_up(house: House) -> None:
    with house.unix() as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")

        rest(connection)
    assert house.is_well()


def test_a_second_request_that_does_not_end_is_given_up(house: House) -> None:
    with house.unix() as connection:
        connection.sendall(LIVENESS)
        first = connection.recv(65536)
        connection.sendall(b"GET /healthz HT")

        assert b" 200 " in first.split(b"\r\n")[0]
        assert problem(rest(connection))["status"] == 408


def test_somebody_who_has_been_answered_may_stay_a_while(house: House) -> None:
    with house.unix() as connection:
        connection.sendall(LIVENESS)
        connection.recv(65536)
        begun = time.monotonic()

        rest(connection)

    assert IMPATIENT.request < time.monotonic() - begun


def test_somebody_who_takes_no_answer_is_cut_off(house: House) -> None:
    """So many requests that their answers fill all buffers, and nobody reads them."""
    with house.unix() as connection:
        connection.setblocking(False)
        until = time.monotonic() + DEADLINE
        cut = False
        while not cut and time.monotonic() < until:
            try:
                connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
            except BlockingIOError:
                time.sleep(0.01)
            except (BrokenPipeError, ConnectionResetError):
                cut = True

    assert cut
    assert house.is_well()


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20, b"GET\r\n\r\n", b"\0" * 100,
     b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"],
    ids=["TLS", "half a line", "zeros", "negative length", "two lengths"],
)  # fmt: skip
def test_what_is_no_http_is_a_problem(house: House, garbage: bytes) -> None:
    with house.unix() as connection:
        connection.sendall(garbage)

        assert problem(rest(connection))["status"] == 400


def test_a_head_is_not_longer_than_it_may_be(house: House) -> None:
    with house.unix() as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"X: " + b"x" * (4 * LARGEST_HEAD) + b"\r\n\r\n")

        assert problem(rest(connection))["status"] == 400


@pytest.mark.parametrize("length", [LARGEST_HEAD + 1, 100_000])
@pytest.mark.parametrize("where", ["field", "fields", "target"])
def test_a_long_head_that_arrives_in_one_piece_is_refused(house: House, length: int, where: str) -> None:
    target, fields = "/healthz", "X: 1\r\n"
    if where == "target":
        target += "?" + "x" * length
    else:
        fields = "X: " + "x" * length + "\r\n" if where == "field" else "X: 1\r\n" * (length // 6 + 1)
    with house.unix() as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())

        assert problem(rest(connection))["status"] == 400


def test_a_body_of_somebody_unknown_is_not_read(house: House) -> None:
    with house.over_tcp() as connection:
        connection.sendall(HEAD + f"Content-Length: {LARGEST_BODY}\r\n\r\n".encode())

        status = connection.recv(65536).split(b"\r\n")[0]

    assert b" 401 " in status


def test_a_handshake_that_does_not_end_is_given_up(house: House) -> None:
    with house.over_tcp(house.tls) as connection:
        connection.sendall(b"\x16\x03\x01")

        assert rest(connection) == b""
    assert house.is_well()


@pytest.mark.parametrize(
    ("enter", "most"),
    [(House.unix, SMALL.unix), (House.over_tcp, SMALL.address)],
    ids=["unix", "one address"],
)
def test_a_crowd_finds_the_door_closed(
    patient: House, enter: Callable[[House], socket.socket], most: int
) -> None:
    with contextlib.ExitStack() as stack:
        inside = [stack.enter_context(enter(patient)) for _ in range(most)]
        for connection in inside:
            connection.sendall(LIVENESS)
            assert b" 200 " in connection.recv(65536)

        with enter(patient) as one_more:
            refused = problem(rest(one_more))

        assert (refused["status"], refused["type"]) == (503, "urn:xdpdirector:problem:overloaded")
    wait_until(patient.is_well)


def test_a_crowd_of_strangers_keeps_nobody_out(patient: House) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(2 * SMALL.unauthenticated):
            stack.enter_context(patient.over_tcp(patient.tls, source=f"127.0.1.{number + 1}"))

        with patient.over_tcp(source="127.0.2.1") as one_more:
            one_more.sendall(
                f"GET /readyz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {patient.token}\r\n\r\n".encode()
            )
            assert b" 200 " in one_more.recv(65536).split(b"\r\n")[0]
        assert patient.is_well()


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(Exception):
            if condition():
                return
        assert time.monotonic() < until
        time.sleep(0.02)


def test_requests_beyond_the_rate_are_refused(tmp_path: Path) -> None:
    with ApiServer(FakeDirector(), tmp_path / "api.sock", ApiSpec(rate=5)) as server:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(DEADLINE)
        connection.connect(str(server.path))
        with connection, connection.makefile("rb") as answers:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n" * 30)
            statuses, waits = [], []
            for _ in range(30):
                head = list(iter(lambda: answers.readline().strip(), b""))
                fields = dict(line.lower().split(b": ", 1) for line in head[1:])
                answers.read(int(fields[b"content-length"]))
                statuses.append(int(head[0].split()[1]))
                waits += [fields[b"retry-after"]] if b"retry-after" in fields else []

    assert statuses[:10] == [200] * 10
    assert 429 in statuses
    assert set(waits) == {b"1"}


def test_long_polls_do_not_take_all_places(tmp_path: Path) -> None:
    director = FakeDirector()
    poll = b"GET /v1/services/web/backends/web1?wait=drained&timeout=60s HTTP/1.1\r\nHost: x\r\n\r\n"
    web = {"name": "web", "listeners": ["192.0.2.10:80/tcp"], "backends": {"web1": {"address": "192.0.2.21"}}}
    with ApiServer(director, tmp_path / "api.sock") as server, contextlib.ExitStack() as stack:
        server.client.post("/v1/services", web)
        director.busy["web", "web1"] = 1
        server.client.post("/v1/services/web/backends/web1/drain")

        def ask(request: bytes) -> socket.socket:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection.settimeout(DEADLINE)
            connection.connect(str(server.path))
            connection.sendall(request)
            return connection

        waiting = [ask(poll) for _ in range(AT_ONCE)]
        wait_until(lambda: b" 429 " in ask(LIVENESS.replace(b"healthz", b"readyz")).recv(65536))
        director.busy.clear()
        statuses = {connection.recv(65536).split()[1] for connection in waiting}

        assert statuses == {b"200"}
        assert server.client.get("/readyz")["ready"]


class Child:
    """The API in a process of its own, whose memory can be told."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "api.sock"
        code = f"from tests.support import attacked_api; attacked_api.serve({str(self._path)!r})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3], text=True
        )
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())

    def memory(self) -> int:
        """Resident bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) * 1024


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    child = Child(tmp_path)
    yield child
    child.process.terminate()
    child.process.communicate(timeout=DEADLINE)


def attack(port: int, numbers: range) -> None:
    """Each time another address, another token, another path, another key, and much of it."""
    for number in numbers:
        source = (f"127.{number >> 8 & 0xFF}.{number & 0xFF}.9", 0)
        head = (
            f"POST /v1/services/{number}{'p' * 2000} HTTP/1.1\r\nHost: {number}\r\n"
            f"Authorization: Bearer xdpd_{number}_{'t' * 4000}\r\nIdempotency-Key: {number}\r\n"
            f"Content-Length: {LARGEST_BODY}\r\n\r\n"
        )
        with (
            socket.create_connection(("127.0.0.1", port), DEADLINE, source_address=source) as one,
            contextlib.suppress(ConnectionResetError, BrokenPipeError),
        ):
            one.sendall(head.encode() + b"{" * 4000)
            assert b" 401 " in one.recv(65536)


@pytest.mark.soak
def test_nothing_that_strangers_send_grows_memory(child: Child) -> None:
    """30 MB are sent; what remains are some kilobytes of buckets, and the allocator's gaps."""
    attack(child.port, range(500))
    before = child.memory()

    attack(child.port, range(500, 3500))

    assert child.memory() - before < 12 * MiB
