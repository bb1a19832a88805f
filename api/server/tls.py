# SPDX-License-Identifier: Apache-2.0
"""The TLS that the API speaks: 1.2 and later, with forward secrecy, and with what the operator's files say."""

from __future__ import annotations

import ssl

from xdpdirector.errors import ConfigurationError
from xdpdirector.model.access import TlsSpec
from xdpdirector.system import files

SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: with forward secrecy and authenticated encryption (RFC 9325, 4.2). Those of TLS 1.3 all have both."""


def context(spec: TlsSpec) -> ssl.SSLContext:
    """ConfigurationError names the file that cannot be used."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(SUITES)
    made.set_alpn_protocols(["http/1.1"])
    _load(made, spec)
    if spec.client_ca:
        try:
            files.require_regular(spec.client_ca)
            made.load_verify_locations(spec.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"api.tls.client_ca {spec.client_ca}: {_reason(error)}") from error
        made.verify_mode = ssl.CERT_REQUIRED
    return made


def _load(into: ssl.SSLContext, spec: TlsSpec) -> None:
    try:
        for path in (spec.certificate, spec.key):
            files.require_regular(path)
        into.load_cert_chain(spec.certificate, spec.key, password=_no_password)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise ConfigurationError(
            f"api.tls: certificate {spec.certificate} and key {spec.key} cannot be used: {_reason(error)}"
        ) from error


def _no_password() -> str:
    raise ValueError("the key is encrypted, and nobody is there to ask for its password")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)).strip()
