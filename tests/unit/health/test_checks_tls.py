# SPDX-License-Identifier: Apache-2.0
"""TLS in the probes: handshakes, certificates, and what is said inside."""

import asyncio
import os
import ssl
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from tests.support.certificates import Certified, certify
from tests.support.check_servers import (
    PATIENT,
    SHORT,
    Answer,
    at,
    babbling,
    closing,
    probed,
    serving,
    silent,
)
from xdpdirector.health.checks import (
    CheckFailed,
    CheckImpossible,
    direct,
    tls,
    trust_store,
)
from xdpdirector.health.checks.stream import Channel
from xdpdirector.model.checks import HttpsCheck, TlsCheck
from xdpdirector.system import files

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
            await probed(spec, at(port), direct)
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


def test_authorities_are_read_again_when_their_file_is_another(tmp_path: Path) -> None:
    """As when a certificate is renewed: no failure on the way, and no restart."""
    old, new = (certify(tmp_path, NAME, days=days) for days in (10, 20))
    ca = tmp_path / "ca.pem"
    ca.write_bytes(old.certificate.read_bytes())
    spec = tls_check(verify=True, server_name=NAME, ca=str(ca))

    async def story() -> list[str]:
        said = [await ask(silent(), old, spec)]
        ca.write_bytes(old.certificate.read_bytes() + new.certificate.read_bytes())
        with suppress(CheckImpossible):  # they were replaced a moment ago
            said.append(await ask(silent(), new, spec))
        said.append(await ask(silent(), new, spec))
        replaced = tmp_path / "other.pem"
        replaced.write_bytes(old.certificate.read_bytes())
        replaced.rename(ca)
        trust_store.forget()
        said.append(await ask(silent(), old, spec))
        refused = await ask(silent(), new, spec)
        assert refused == f"the certificate of HOST is not accepted for {NAME}: self-signed certificate"
        return said

    assert set(asyncio.run(story())) == {""}


@pytest.mark.parametrize("what", ["nothing", "no certificate", "a FIFO", "a device", "too much"])
def test_what_cannot_be_read_again_is_told_and_what_was_read_last_is_trusted(
    certified: Certified, tmp_path: Path, what: str
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(certified.certificate.read_bytes())
    spec = tls_check(verify=True, server_name=NAME, ca=str(ca))

    async def story() -> None:
        assert await ask(silent(), certified, spec) == ""
        spoil(ca, what)
        trust_store.forget()
        assert await ask(silent(), certified, spec) == ""
        (note,) = [note for note in trust_store.notes() if str(ca) in note]
        assert note.endswith("those that were read last are trusted")
        ca.unlink(missing_ok=True)
        ca.write_bytes(certified.certificate.read_bytes())
        trust_store.forget()
        assert await ask(silent(), certified, spec) == ""
        assert [note for note in trust_store.notes() if str(ca) in note] == []

    asyncio.run(asyncio.wait_for(story(), PATIENT))


def spoil(path: Path, what: str) -> None:
    path.unlink()
    if what == "no certificate":
        path.write_text("half a certific")
    elif what == "a FIFO":
        os.mkfifo(path)
    elif what == "a device":
        path.symlink_to("/dev/zero")
    elif what == "too much":
        with path.open("wb") as file:
            file.truncate(files.LARGEST + 1)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a FIFO", "it is no regular file"),
        ("a device", "it is no regular file"),
        ("too much", "it has more than 4 MiB"),
        ("no certificate", "it holds no certificates in PEM"),
    ],
)
def test_a_file_of_authorities_that_is_none(
    certified: Certified, tmp_path: Path, what: str, words: str
) -> None:
    ca = tmp_path / "ca.pem"
    ca.touch()
    spoil(ca, what)
    spec = tls_check(verify=True, server_name=NAME, ca=str(ca))

    with pytest.raises(CheckImpossible, match=rf"ca\.pem cannot be read: {words}"):
        asyncio.run(asyncio.wait_for(ask(silent(), certified, spec), PATIENT))


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return bytes([tag, 0x84]) + len(content).to_bytes(4) + content


def certificate_until(end: bytes, *, version: bool = True) -> bytes:
    """As much of one as is looked at; `end` is an element."""
    head = [der(0xA0, der(0x02, b"\x02"))] if version else []
    validity = der(0x30, der(0x17, b"200101000000Z"), end)
    fields = [*head, der(0x02, b"\x01"), der(0x30), der(0x30), validity, der(0x30), der(0x30)]
    return der(0x30, der(0x30, *fields), der(0x30), der(0x03))


@pytest.mark.parametrize(
    ("end", "moment"),
    [
        (der(0x17, b"300102030405Z"), "2030-01-02T03:04:05+00:00"),
        (der(0x17, b"991231235959Z"), "1999-12-31T23:59:59+00:00"),
        (der(0x17, b"491231235959Z"), "2049-12-31T23:59:59+00:00"),
        (der(0x17, b"500101000000Z"), "1950-01-01T00:00:00+00:00"),
        (der(0x18, b"99991231235959Z"), "9999-12-31T23:59:59+00:00"),
    ],
    ids=["soon", "long ago", "the last", "the first", "never"],
)
@pytest.mark.parametrize("version", [True, False], ids=["version 3", "version 1"])
def test_the_end_of_a_certificate(end: bytes, moment: str, version: bool) -> None:
    assert (
        tls.not_after(certificate_until(end, version=version)) == datetime.fromisoformat(moment).timestamp()
    )


@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x30\x80\0\0", id="indefinite length"),
        pytest.param(certificate_until(der(0x17, b"300102030405Z"))[:-20], id="broken off"),
        pytest.param(certificate_until(der(0x17, b"301302030405Z")), id="month 13"),
        pytest.param(certificate_until(der(0x17, b"3001020304Z")), id="no seconds"),
        pytest.param(certificate_until(der(0x17, b"300102030405+0100")), id="a zone"),
        pytest.param(certificate_until(der(0x18, b"\xff" * 15)), id="no digits"),
        pytest.param(certificate_until(der(0x18, b"2" * 100000)), id="digits without end"),
        pytest.param(certificate_until(der(0x02, b"\x01")), id="a number"),
        pytest.param(der(0x30, der(0x30, *[b"\x05\0"] * 30000)), id="many elements"),
    ],
)
def test_a_certificate_without_an_end_is_the_servers_fault(certificate: bytes) -> None:
    """Else its verdict would stay, as for a mistake of ours."""
    talk = Channel(at(443))
    talk._tls = cast(ssl.SSLObject, Shown(certificate))

    with pytest.raises(CheckFailed, match="does not say until when it is valid"):
        tls._judge_days(talk, 1)


class Shown:
    """As much of TLS as shows a certificate."""

    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate

    def getpeercert(self, *, binary_form: bool) -> bytes:
        return self._certificate


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
