# SPDX-License-Identifier: Apache-2.0
"""The API's doors, with curl before them: the unix socket, TCP with a token, TLS."""

from __future__ import annotations

import asyncio
import grp
import json
import os
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.api_server import PLENTY, ApiServer
from tests.support.fake_director import FakeDirector
from tests.support.loopback_certificate import Certificate, made
from xdpdirector.api.auth.identity import user_name
from xdpdirector.api.server import tls
from xdpdirector.api.server.server import ListeningSocket
from xdpdirector.api.server.sockets import Certificates, open_sockets
from xdpdirector.errors import ConfigurationError
from xdpdirector.model.access import ApiSpec, Endpoint, Role, TlsSpec
from xdpdirector.storage.access_db import AccessFile
from xdpdirector.storage.tokens import Tokens, TokenSpec

LOOPBACK = ip_address("127.0.0.1")
SERVICES = "/v1/services"
WEB = json.dumps({"name": "web", "listeners": ["192.0.2.10:80/tcp"]})


class Answer(NamedTuple):
    status: int
    document: Any
    headers: dict[str, list[str]]
    exit_code: int
    error: str


def curl(*arguments: str | Path) -> Answer:
    """What curl(1) says; status 0 when there was no answer."""
    marks = "\n%{http_code}\n%{header_json}"
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "10", "-w", marks, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    body, status, headers = done.stdout.split("\n", 2) if done.stdout.count("\n") >= 2 else ("", "0", "{}")
    return Answer(int(status), json.loads(body or "null"), json.loads(headers), done.returncode, done.stderr)


def free_port() -> int:
    with socket.create_server((str(LOOPBACK), 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return made(tmp_path_factory.mktemp("certificates"), "director")


@pytest.fixture(scope="module")
def client_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return made(tmp_path_factory.mktemp("certificates"), "client")


class House(NamedTuple):
    """`token` may operate. `listening_sockets` are as the daemon opens them."""

    server: ApiServer
    listening_sockets: list[ListeningSocket]
    spec: ApiSpec
    token: str

    @property
    def bearer(self) -> tuple[str, str]:
        return "-H", f"authorization: Bearer {self.token}"


def house(directory: Path, **spec: Any) -> Iterator[House]:
    directory.mkdir(exist_ok=True)
    api = ApiSpec(rate=PLENTY.rate, **spec)
    file = AccessFile(directory / "access.db")
    _, text = Tokens(file).add(TokenSpec(name="deploy", role=Role.OPERATE))
    with (
        open_sockets(directory / "of-daemon.sock", api, Tokens(file)) as listening_sockets,
        ApiServer(FakeDirector(), directory / "api.sock", api, listening_sockets) as server,
    ):
        file.close()
        yield House(server, listening_sockets, api, text)
    file.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from house(tmp_path_factory.mktemp("plain"), listen=(Endpoint(LOOPBACK, free_port()),))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[House]:
    listen = (Endpoint(LOOPBACK, free_port()),)
    directory = tmp_path_factory.mktemp("locked")
    yield from house(directory, listen=listen, tls=TlsSpec(**certificate._asdict()))


def test_the_unix_socket_needs_no_token(plain: House) -> None:
    path = plain.listening_sockets[0].socket.getsockname()

    answer = curl("--unix-socket", path, "http://localhost/readyz")

    assert (answer.status, answer.document["ready"]) == (200, True)


def test_who_is_on_the_unix_socket_stands_beside_the_change(plain: House) -> None:
    path = plain.listening_sockets[0].socket.getsockname()

    made = curl(
        "--unix-socket", path, f"http://localhost{SERVICES}", "--json", WEB, "-H", "change-reason: a test"
    )
    audit = curl("--unix-socket", path, "http://localhost/v1/audit?limit=1").document["items"]

    assert made.status == 201
    assert [(row["author"], row["role"], row["operation"], row["outcome"]) for row in audit] == [
        (user_name(os.getuid()), "admin", "create_service", "done")
    ]
    assert audit[0]["source"].startswith(f"uid {os.getuid()}, pid ")


def test_the_unix_socket_is_for_user_and_group(plain: House) -> None:
    mode = Path(plain.listening_sockets[0].socket.getsockname()).stat().st_mode

    assert stat.S_IMODE(mode) == 0o660


def test_tcp_needs_a_token(plain: House) -> None:
    url = f"http://{plain.spec.listen[0]}/v1/services"

    without, within = curl(url), curl(url, *plain.bearer)

    assert (without.status, without.headers["content-type"]) == (401, ["application/problem+json"])
    assert without.headers["www-authenticate"] == ['Bearer realm="xdpdirector"']
    assert within.status == 200


def test_a_forwarded_address_is_not_believed(plain: House) -> None:
    url = f"http://{plain.spec.listen[0]}{SERVICES}/web/backends/none/drain"

    curl(url, *plain.bearer, "-X", "POST", "-H", "x-forwarded-for: 203.0.113.9")

    path = plain.listening_sockets[0].socket.getsockname()
    (row,) = curl("--unix-socket", path, "http://localhost/v1/audit?limit=1").document["items"]
    assert row["source"].startswith("127.0.0.1:")
    assert row["author"] == "token:deploy"


def test_liveness_is_open(plain: House) -> None:
    assert curl(f"http://{plain.spec.listen[0]}/healthz").status == 200


def test_tls_takes_nothing_less(locked: House, certificate: Certificate) -> None:
    url = f"https://{locked.spec.listen[0]}/v1/services"
    trust = ("--cacert", certificate.certificate)

    answers = {
        version: curl(url, *trust, *locked.bearer, "--tls-max", version).status for version in ("1.2", "1.3")
    }
    old = curl(url, *trust, *locked.bearer, "--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0")
    plain = curl(url.replace("https", "http"), *locked.bearer)

    assert answers == {"1.2": 200, "1.3": 200}
    assert (old.status, plain.status) == (0, 0)
    assert curl(url, *trust).status == 401


def test_the_unix_socket_speaks_no_tls(locked: House) -> None:
    path = locked.listening_sockets[0].socket.getsockname()

    assert curl("--unix-socket", path, "http://localhost/readyz").status == 200


def test_a_new_certificate_is_read_while_running(
    tmp_path: Path, certificate: Certificate, client_certificate: Certificate
) -> None:
    files = Certificate(tmp_path / "certificate.pem", tmp_path / "key.pem")

    def put(source: Certificate) -> None:
        for target, origin in zip(files, source, strict=True):
            target.write_bytes(origin.read_bytes())

    put(certificate)
    spec = {"listen": (Endpoint(LOOPBACK, free_port()),), "tls": TlsSpec(**files._asdict())}
    for locked in house(tmp_path / "house", **spec):
        url = f"https://{locked.spec.listen[0]}/healthz"
        certificates = Certificates(locked.spec, locked.listening_sockets)
        files.key.write_text("half a key")
        asyncio.run(certificates.read())
        assert "key.pem" in certificates.notes()[0]
        assert curl(url, "--cacert", certificate.certificate).status == 200

        put(client_certificate)
        asyncio.run(certificates.read())
        assert certificates.notes() == []

        assert curl(url, "--cacert", client_certificate.certificate).status == 200
        assert curl(url, "--cacert", certificate.certificate).status == 0


def test_other_files_are_noticed_those_of_clients_too(
    tmp_path: Path, certificate: Certificate, client_certificate: Certificate
) -> None:
    """Without a signal, as when a certificate is renewed by a program that knows nothing of us."""
    authority = tmp_path / "authority.pem"
    authority.write_bytes(certificate.certificate.read_bytes())
    spec = TlsSpec(**certificate._asdict(), client_ca=authority)
    for locked in house(tmp_path / "house", listen=(Endpoint(LOOPBACK, free_port()),), tls=spec):
        url = f"https://{locked.spec.listen[0]}/healthz"
        ask = (url, "--cacert", certificate.certificate)
        identity = ("--cert", client_certificate.certificate, "--key", client_certificate.key)
        assert curl(*ask, *identity).status == 0

        asyncio.run(replaced(locked, authority, client_certificate, partial(curl, *ask, *identity)))
        assert curl(*ask, *identity).status == 200


async def replaced(house: House, authority: Path, by: Certificate, ask: Callable[[], Answer]) -> None:
    certificates = Certificates(house.spec, house.listening_sockets, look_apart=0.01)
    following = asyncio.create_task(certificates.follow())
    authority.write_bytes(by.certificate.read_bytes())
    async with asyncio.timeout(20):
        while (await asyncio.to_thread(ask)).status != 200:
            await asyncio.sleep(0.01)
        authority.unlink()
        os.mkfifo(authority)
        while not certificates.notes():
            await asyncio.sleep(0.01)
    assert "it is no regular file" in certificates.notes()[0]
    following.cancel()


@pytest.mark.parametrize("file", ["certificate", "key", "client_ca"])
def test_a_file_that_would_hold_its_reader_is_refused(
    tmp_path: Path, certificate: Certificate, file: str
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    paths = {**certificate._asdict(), "client_ca": certificate.certificate, file: fifo}

    with pytest.raises(ConfigurationError, match="it is no regular file"):
        tls.context(TlsSpec(**paths))


def test_clients_can_need_a_certificate_too(
    tmp_path: Path, certificate: Certificate, client_certificate: Certificate
) -> None:
    spec = TlsSpec(**certificate._asdict(), client_ca=client_certificate.certificate)
    for locked in house(tmp_path / "house", listen=(Endpoint(LOOPBACK, free_port()),), tls=spec):
        url = f"https://{locked.spec.listen[0]}/v1/services"
        trust = ("--cacert", certificate.certificate)
        mine = ("--cert", client_certificate.certificate, "--key", client_certificate.key)

        without = curl(url, *trust, *locked.bearer)
        only = curl(url, *trust, *mine)
        both = curl(url, *trust, *mine, *locked.bearer)

        assert (without.status, only.status, both.status) == (0, 401, 200)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ({"listen": ["127.0.0.1:8650"]}, r"127\.0\.0\.1:8650.*no valid token.*xdpdirector token add"),
        ({"listen": ["[::1]:8650"]}, r"\[::1\]:8650.*no valid token"),
        ({"group": "no-such-group"}, "there is no group 'no-such-group'"),
        ({"tls": {"certificate": "/none.pem", "key": "/none.key"}}, r"/none\.pem.*No such file"),
    ],
    ids=["loopback without a token", "IPv6 loopback", "group", "certificate"],
)
def test_what_is_not_safe_is_not_opened(tmp_path: Path, spec: dict[str, Any], sentence: str) -> None:
    file = AccessFile(tmp_path / "access.db")
    tokens = Tokens(file)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    Tokens(file, now=lambda: long_ago).add(TokenSpec(name="old", role=Role.ADMIN, lifetime=1))

    with (
        pytest.raises(ConfigurationError, match=sentence),
        open_sockets(tmp_path / "api.sock", ApiSpec.model_validate(spec), tokens),
    ):
        pass

    file.close()
    assert not (tmp_path / "api.sock").exists()


def test_an_address_that_is_taken_is_named(plain: House, tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match=f"{plain.spec.listen[0]} cannot be opened: Address already"),
        open_sockets(tmp_path / "api.sock", plain.spec, plain.server.access.tokens),
    ):
        pass


def test_no_answer_over_tcp_waits_for_acknowledgements(tmp_path: Path) -> None:
    spec = ApiSpec(listen=(Endpoint(LOOPBACK, free_port()),))
    file = AccessFile(tmp_path / "access.db")
    tokens = Tokens(file)
    tokens.add(TokenSpec(name="deploy", role=Role.READ))

    with closing(file), open_sockets(tmp_path / "api.sock", spec, tokens) as [_, tcp]:
        tcp.socket.listen()
        with socket.create_connection(tcp.socket.getsockname()), tcp.socket.accept()[0] as accepted:
            option = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert option != 0


def test_a_file_that_tells_no_tokens_leaves_the_unix_socket(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "access.db").write_bytes(b"no database" * 100)
    spec = ApiSpec(listen=(Endpoint(LOOPBACK, free_port()),))

    with open_sockets(
        tmp_path / "api.sock", spec, Tokens(AccessFile(tmp_path / "access.db"))
    ) as listening_sockets:
        families = [listening_socket.socket.family for listening_socket in listening_sockets]

    assert families == [socket.AF_UNIX]
    assert "tokens cannot be checked" in caplog.text


def test_an_encrypted_key_is_refused_at_once(tmp_path: Path) -> None:
    files = made(tmp_path, "director", key_pass="secret")

    with pytest.raises(ConfigurationError, match=r"director\.key.*encrypted"):
        tls.context(TlsSpec(**files._asdict()))


def test_a_group_gets_the_socket(tmp_path: Path) -> None:
    own = os.getgid()
    spec = ApiSpec(group=grp.getgrgid(own).gr_name)

    with open_sockets(tmp_path / "api.sock", spec, Tokens(AccessFile(tmp_path / "access.db"))):
        state = (tmp_path / "api.sock").stat()

    assert (state.st_gid, stat.S_IMODE(state.st_mode)) == (own, 0o660)


def test_tls_has_forward_secrecy(certificate: Certificate) -> None:
    """Suites of TLS 1.3 have it in any case, and OpenSSL says `kx-any` of them."""
    suites = tls.context(TlsSpec(**certificate._asdict())).get_ciphers()

    assert {suite["kea"] for suite in suites} == {"kx-ecdhe", "kx-any"}
    assert all(suite["aead"] for suite in suites)
    assert {suite["protocol"] for suite in suites if suite["kea"] == "kx-any"} == {"TLSv1.3"}


def test_tls_is_no_older_than_1_2(certificate: Certificate) -> None:
    context = tls.context(TlsSpec(**certificate._asdict()))

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
