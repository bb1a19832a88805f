# SPDX-License-Identifier: Apache-2.0
"""The `tls` check, and TLS for the other checks: handshake, certificate, days until it expires.

Translates OpenSSL's errors to sentences. Must not know the protocol inside TLS.
"""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime

from xdpdirector.health.checks import (
    CheckFailed,
    CheckImpossible,
    Dial,
    Target,
    ber,
    trust_store,
)
from xdpdirector.health.checks.stream import Channel, channel
from xdpdirector.model.checks import CheckSpec, Secured, TlsCheck

DAY = 86400
_VERSION = 0xA0
_TIMES = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}  # UTCTime, GeneralizedTime (RFC 5280, 4.1.2.5)
_LENGTHS = {0x17: 13, 0x18: 15}


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Succeeds if the handshake does, and the certificate stays valid for the configured time."""
    assert isinstance(spec, TlsCheck)
    async with channel(spec, target, dial) as talk:
        await secure(talk, spec)
        if spec.min_days is not None:
            _judge_days(talk, spec.min_days)


async def secure(talk: Channel, spec: Secured) -> None:
    """Handshake with the check's options."""
    try:
        await talk.secure(await trust_store.trusted(spec), spec.sni)
    except ssl.SSLCertVerificationError as error:
        if await trust_store.changed(spec.ca):
            raise CheckImpossible(
                f"the certificates in {spec.ca or 'this machine'} were replaced a moment ago"
            ) from error
        raise CheckFailed(
            f"the certificate of {talk.target} is not accepted for {spec.sni}: {error.verify_message}"
        ) from error
    except ssl.SSLError as error:
        if isinstance(error, ssl.SSLEOFError) or error.reason is None:
            raise CheckFailed(f"{talk.target} closed the connection during the TLS handshake") from error
        why = error.reason.replace("_", " ").lower()
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            why = "what it answers is not TLS"
        raise CheckFailed(f"no TLS with {talk.target}: {why}") from error


def _judge_days(talk: Channel, least: int) -> None:
    try:
        left = (not_after(talk.certificate) - time.time()) / DAY
    except ValueError as error:
        raise CheckFailed(
            f"the certificate of {talk.target} does not say until when it is valid: {error}"
        ) from error
    if left < 0:
        raise CheckFailed(f"the certificate of {talk.target} expired {-left:.0f} days ago")
    if left < least:
        raise CheckFailed(
            f"the certificate of {talk.target} expires in {left:.0f} days, expected {least} at least"
        )


def not_after(certificate: bytes) -> float:
    """When a certificate (DER, RFC 5280, 4.1) expires, in seconds since the epoch. ValueError."""
    whole, _ = ber.read(certificate)
    (body,) = ber.first(whole, 1)
    fields = ber.first(body, 5)
    validity = fields[4] if fields[0].tag == _VERSION else fields[3]  # after serialNumber, signature, issuer
    _, end = ber.first(validity, 2)
    form = _TIMES.get(end.tag)
    text = bytes(end.content[:16]).decode("ascii", "replace")
    if form is None or len(text) != _LENGTHS[end.tag] or not (text[:-1].isascii() and text[:-1].isdecimal()):
        raise ValueError("its end is not a valid time")
    moment = datetime.strptime(text, form)
    if end.tag == 0x17:  # a year of two digits is from 1950 to 2049, strptime's from 1969 to 2068
        moment = moment.replace(year=moment.year % 100 + (1900 if moment.year % 100 >= 50 else 2000))
    return moment.replace(tzinfo=UTC).timestamp()
