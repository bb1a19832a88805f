# SPDX-License-Identifier: Apache-2.0
"""The probes that wait for a greeting: smtp, pop3, imap, ftp."""

import asyncio
from typing import Any

import pytest
from pydantic import TypeAdapter

from tests.support.certificates import Certified, certify
from tests.support.check_servers import (
    PATIENT,
    SHORT,
    Answer,
    at,
    babbling,
    closing,
    deaf_port,
    full_port,
    probed,
    script,
    serving,
    silent,
)
from xdpdirector.health.checks import CheckFailed, direct
from xdpdirector.model.checks import CheckSpec

SPEC: TypeAdapter[CheckSpec] = TypeAdapter(CheckSpec)
GREETING = {
    "smtp": b"220-mail.example.org\r\n220 ready\r\n",
    "pop3": b"+OK ready\r\n",
    "imap": b"* OK ready\r\n",
    "ftp": b"220-Welcome\r\n some text\r\n220 ready\r\n",
}
TALK = {
    "smtp": ((b"EHLO x", b"250-mail\r\n250 STARTTLS\r\n"), (b"QUIT", b"221 bye\r\n")),
    "pop3": ((b"QUIT", b"+OK bye\r\n"),),
    "imap": ((b"a2 LOGOUT", b"* BYE\r\na2 OK\r\n"),),
    "ftp": ((b"QUIT", b"221 bye\r\n"),),
}
SECURE_TALK = {
    "smtp": (TALK["smtp"][0], (b"STARTTLS", b"220 go\r\n"), *TALK["smtp"]),
    "pop3": ((b"STLS", b"+OK go\r\n"), *TALK["pop3"]),
    "imap": ((b"a1 STARTTLS", b"* CAPABILITY x\r\na1 OK go\r\n"), *TALK["imap"]),
    "ftp": ((b"AUTH TLS", b"234 go\r\n"), *TALK["ftp"]),
}
PROTOCOLS = pytest.mark.parametrize("kind", GREETING)


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certify(tmp_path_factory.mktemp("mail"))


def check(kind: str, timeout: float = PATIENT, **options: Any) -> CheckSpec:
    return SPEC.validate_python({"type": kind, "timeout": timeout, "interval": PATIENT, **options})


async def failure(answer: Answer, spec: CheckSpec, certified: Certified | None = None) -> str:
    async with serving(answer, tls=certified.server if certified else None) as port:
        try:
            await probed(spec, at(port), direct)
        except CheckFailed as failed:
            return str(failed).replace(f"port {port} of 127.0.0.1", "HOST")
    return ""


@PROTOCOLS
def test_a_good_server(kind: str) -> None:
    assert asyncio.run(failure(script(*TALK[kind], greeting=GREETING[kind]), check(kind))) == ""


@PROTOCOLS
def test_a_good_server_in_tls_from_the_start(kind: str, certified: Certified) -> None:
    answer = script(*TALK[kind], greeting=GREETING[kind])

    assert asyncio.run(failure(answer, check(kind, tls="direct"), certified)) == ""


@PROTOCOLS
def test_a_good_server_that_starts_tls(kind: str, certified: Certified) -> None:
    answer = script(*SECURE_TALK[kind], greeting=GREETING[kind], tls=certified.server)

    assert asyncio.run(failure(answer, check(kind, tls="start"))) == ""


@pytest.mark.parametrize(
    ("kind", "answer", "sentence"),
    [
        pytest.param(
            "smtp",
            silent(b"554 go away\r\n"),
            "HOST answered '554 go away' to the connection, expected 220",
            id="smtp",
        ),
        pytest.param(
            "smtp",
            script((b"EHLO", b"421 too busy\r\n"), greeting=GREETING["smtp"]),
            "HOST answered '421 too busy' to EHLO xdpdirector, expected 250",
            id="smtp busy",
        ),
        pytest.param(
            "ftp",
            silent(b"421 full\r\n"),
            "HOST answered '421 full' to the connection, expected 220",
            id="ftp",
        ),
        pytest.param(
            "pop3",
            silent(b"-ERR in use\r\n"),
            "HOST sent '-ERR in use' as its greeting, expected '+OK'",
            id="pop3",
        ),
        pytest.param(
            "imap",
            silent(b"* BYE full\r\n"),
            "HOST sent '* BYE full' as its greeting, expected '* OK or * PREAUTH'",
            id="imap",
        ),
        pytest.param(
            "smtp",
            silent(b"HTTP/1.1 400 Bad Request\r\n"),
            "the greeting of HOST is none of this protocol: it begins with 'HTTP/1.1 400 Bad Request'",
            id="another protocol",
        ),
    ],
)
def test_a_server_that_does_not_want_us(kind: str, answer: Answer, sentence: str) -> None:
    assert asyncio.run(failure(answer, check(kind))) == sentence


@PROTOCOLS
@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        pytest.param(
            silent(), "HOST opened the connection but did not send its greeting within 500ms", id="mute"
        ),
        pytest.param(closing(), "HOST closed the connection without its greeting", id="closed"),
        pytest.param(babbling, "HOST sent more than 64 KiB, but not its greeting", id="endless"),
    ],
)
def test_no_greeting(kind: str, answer: Answer, sentence: str) -> None:
    assert asyncio.run(failure(answer, check(kind, SHORT))) == sentence


def test_tls_that_is_not_offered() -> None:
    answer = script(TALK["smtp"][0], (b"STARTTLS", b"502 no\r\n"), greeting=GREETING["smtp"])

    assert (
        asyncio.run(failure(answer, check("smtp", tls="start")))
        == "HOST answered '502 no' to STARTTLS, expected 220"
    )


def test_what_was_said_before_tls_does_not_count() -> None:
    """Somebody on the way could have put it there (CVE-2011-0411)."""
    answer = silent(GREETING["pop3"] + b"+OK go\r\n+OK and this is not said in TLS\r\n")

    assert "TLS" in asyncio.run(failure(answer, check("pop3", SHORT, tls="start")))


@PROTOCOLS
def test_nobody_there(kind: str) -> None:
    with deaf_port() as refusing, full_port() as mute:
        for port, words in ((refusing, "nothing listens on port"), (mute, "no answer from port")):
            with pytest.raises(CheckFailed, match=words) as failed:
                asyncio.run(probed(check(kind, 0.05), at(port), direct))
            assert failed.value.absence
