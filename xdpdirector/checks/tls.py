# SPDX-License-Identifier: Apache-2.0
"""The `tls` check, and TLS for the other checks: handshake, certificate, its days.

OpenSSL's words become sentences here; this file must not know what is said inside TLS.
"""

from __future__ import annotations

import ssl
import time
from functools import lru_cache

from xdpdirector.checks import CheckFailed, CheckImpossible, Dial, Target
from xdpdirector.checks.channel import Channel, channel
from xdpdirector.checkspec import CheckSpec, Secured, TlsCheck

DAY = 86400


async def probe(spec: CheckSpec, target: Target, dial: Dial) -> None:
    """Fine when the handshake succeeds, and the certificate lasts."""
    assert isinstance(spec, TlsCheck)
    async with channel(spec, target, dial) as talk:
        await secure(talk, spec)
        if spec.min_days is not None:
            _judge_days(talk, spec.min_days)


async def secure(talk: Channel, spec: Secured) -> None:
    """The handshake, as the check's options want it."""
    try:
        await talk.secure(_context(spec.verify, spec.ca), spec.sni)
    except ssl.SSLCertVerificationError as error:
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


@lru_cache(maxsize=32)
def _context(verify: bool, ca: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        # The question is whether the server works, not how good its encryption is: old ones are asked as well.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        return context
    try:
        context.load_verify_locations(cafile=ca) if ca else context.load_default_certs()
    except OSError as error:
        raise CheckImpossible(
            f"the certificates in {ca} cannot be read: {error.strerror or error}"
        ) from error
    return context


def _judge_days(talk: Channel, least: int) -> None:
    left = (not_after(talk.certificate) - time.time()) / DAY
    if left < 0:
        raise CheckFailed(f"the certificate of {talk.target} expired {-left:.0f} days ago")
    if left < least:
        raise CheckFailed(
            f"the certificate of {talk.target} expires in {left:.0f} days, expected {least} at least"
        )


@lru_cache(maxsize=256)
def not_after(certificate: bytes) -> float:
    """When a certificate (DER, RFC 5280) ends, in seconds since the epoch."""
    from pyasn1.codec.der import decoder
    from pyasn1_modules import rfc5280

    decoded, _ = decoder.decode(certificate, asn1Spec=rfc5280.Certificate())
    moment = decoded["tbsCertificate"]["validity"]["notAfter"].getComponent()
    return float(moment.asDateTime.timestamp())
