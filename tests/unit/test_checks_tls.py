# SPDX-License-Identifier: Apache-2.0
"""TLS in the probes: handshakes, certificates, and what is said inside."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from certificates import Certified, certify
from peers import PATIENT, SHORT, Answer, at, babbling, closing, serving, silent

from xdpdirector.checks import CheckFailed, CheckImpossible, direct, registry
from xdpdirector.checkspec import HttpsCheck, TlsCheck

NAME = "www.example.org"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certify(tmp_path_factory.mktemp("tls"), NAME, days=30)


def tls_check(timeout: float = PATIENT, **options: Any) -> TlsCheck:
    return TlsCheck.model_validate({"type": "tls", "timeout": timeout, "interval": PATIENT, **options})


def https_check(**options: Any) -> HttpsCheck:
    return HttpsCheck.model_validate({"type": "https", "timeout": PATIENT, "interval": PATIENT, **options})


async def ask(answer: Answer, certified: Certified | None, spec: TlsCheck | HttpsCheck) -> str:
    """The failure's sentence with the server's place as HOST; empty when there is none."""
    async with serving(answer, tls=certified.server if certified else None) as port:
        try:
            await registry.probe(spec, at(port), direct)
        except CheckFailed as failure:
            return str(failure).replace(f"port {port} of 127.0.0.1", "HOST")
    return ""


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="any certificate"),
        pytest.param({"server_name": "other.example.org"}, id="any name"),
        pytest.param({"min_days": 20}, id="days"),
        pytest.param({"verify": True, "server_name": NAME, "ca": "CA", "min_days": 20}, id="verified"),
    ],
)
def test_tls_is_content(certified: Certified, options: dict[str, Any]) -> None:
    if "ca" in options:
        options = options | {"ca": str(certified.certificate)}

    assert asyncio.run(ask(silent(), certified, tls_check(**options))) == ""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param(
            {"verify": True, "server_name": NAME},
            f"the certificate of HOST is not accepted for {NAME}: self-signed certificate",
            id="unknown authority",
        ),
        pytest.param(
            {"verify": True, "server_name": "mail.example.org", "ca": "CA"},
            "the certificate of HOST is not accepted for mail.example.org: Hostname mismatch, "
            "certificate is not valid for 'mail.example.org'.",
            id="another name",
        ),
        pytest.param(
            {"min_days": 31}, "the certificate of HOST expires in 30 days, expected 31 at least", id="days"
        ),
    ],
)
def test_a_certificate_that_will_not_do(certified: Certified, options: dict[str, Any], sentence: str) -> None:
    if "ca" in options:
        options = options | {"ca": str(certified.certificate)}

    assert asyncio.run(ask(silent(), certified, tls_check(**options))) == sentence


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        pytest.param(
            closing(b"220 hello\r\n"), "no TLS with HOST: what it answers is not TLS", id="another protocol"
        ),
        pytest.param(closing(), "HOST closed the connection during the TLS handshake", id="closed"),
        pytest.param(
            silent(),
            "HOST opened the connection but did not send its part of the TLS handshake within 500ms",
            id="mute",
        ),
        pytest.param(babbling, "no TLS with HOST: what it answers is not TLS", id="endless"),
    ],
)
def test_no_tls(answer: Answer, sentence: str) -> None:
    assert asyncio.run(ask(answer, None, tls_check(SHORT))) == sentence


def test_a_file_of_authorities_that_is_missing(certified: Certified, tmp_path: Path) -> None:
    spec = tls_check(verify=True, server_name=NAME, ca=str(tmp_path / "none.pem"))

    with pytest.raises(CheckImpossible, match=r"none\.pem cannot be read: No such file or directory"):
        asyncio.run(ask(silent(), certified, spec))


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(200, ""), (204, "HOST answered 200 OK to GET /, expected 204")],
    ids=["wanted", "unwanted"],
)
def test_https(certified: Certified, status: int, sentence: str) -> None:
    heads = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(OK)
        await writer.drain()
        await reader.read()

    spec = https_check(host=NAME, verify=True, ca=str(certified.certificate), status=[status])

    assert asyncio.run(ask(answer, certified, spec)) == sentence
    assert f"Host: {NAME}\r\n" in heads[0]
