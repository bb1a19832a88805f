# SPDX-License-Identifier: Apache-2.0
"""Trusted CA certificates of checks as TLS contexts: from a file, or the system's.

A file is checked for changes before a probe, at most once a second, and read again if it changed. If it
cannot be read, that is reported, and the last version stays in use: a broken file says nothing about a
server. All reads are in threads, because a file system can be slow.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from dataclasses import dataclass
from functools import cache

from xdpdirector.health.checks import CheckImpossible
from xdpdirector.model.checks import Secured
from xdpdirector.system import files
from xdpdirector.system.files import Fingerprint

LOOK_APART = 1.0  # seconds
READ_WITHIN = 5.0  # seconds; an unavailable file system may never answer
_MOST = 64  # files
_KEPT = 3  # intervals after the last use


@dataclass
class _Known:
    """`trouble`: why the file could not be read again. `until`: when an unused one is dropped (monotonic)."""

    context: ssl.SSLContext
    state: tuple[Fingerprint | None, ...]
    looked: float
    until: float = 0.0
    trouble: str = ""


_known: dict[str | None, _Known] = {}


async def trusted(spec: Secured) -> ssl.SSLContext:
    """The trusted CAs of a check, up to date. CheckImpossible if they could never be read."""
    if not spec.verify:
        return _everybody()
    ca, keep = spec.ca, _KEPT * spec.interval + spec.timeout
    now, known = time.monotonic(), _known.get(ca)
    if known and now < known.looked + LOOK_APART:
        known.until = max(known.until, now + keep)
        return known.context
    try:
        async with asyncio.timeout(READ_WITHIN):
            found = await asyncio.to_thread(_look, ca, known)
    except (OSError, ValueError) as error:
        why = f"the certificates in {ca or 'this machine'} cannot be read: {_reason(error)}"
        if known is None:
            raise CheckImpossible(why) from error
        known.trouble, known.looked = f"{why}; those that were read last are trusted", now
        found = known
    found.until = max(found.until, now + keep)
    _known[ca] = found
    while len(_known) > _MOST:
        del _known[min(_known, key=lambda each: _known[each].until)]
    return found.context


async def changed(ca: str | None) -> bool:
    """True if the file differs from the version last read. The next probe uses the new one."""
    known = _known.get(ca)
    if known is None:
        return False
    known.looked = -LOOK_APART
    return await asyncio.to_thread(_states, ca) != known.state


def forget() -> None:
    """Read all files again at their next use."""
    for known in _known.values():
        known.looked, known.state = -LOOK_APART, ()


def notes() -> list[str]:
    """One sentence for each file that checks need and that cannot be read again."""
    now = time.monotonic()
    return sorted(known.trouble for known in _known.values() if known.trouble and now < known.until)


@cache
def _everybody() -> ssl.SSLContext:
    """Checks test whether the server works, not its encryption: allow old protocols and ciphers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def _look(ca: str | None, known: _Known | None) -> _Known:
    """Runs in a thread. OSError, ValueError."""
    state = _states(ca)
    if known and known.state == state:
        return _Known(known.context, state, time.monotonic(), known.until, "")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is None:
        context.load_default_certs()
    else:
        content, fingerprint = files.read(ca)
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
        state = (fingerprint,)
    return _Known(context, state, time.monotonic(), known.until if known else 0.0)


def _states(ca: str | None) -> tuple[Fingerprint | None, ...]:
    if ca is not None:
        return (files.fingerprint(ca),)
    paths = ssl.get_default_verify_paths()
    return tuple(
        files.fingerprint(os.environ.get(name, path))
        for name, path in (
            (paths.openssl_cafile_env, paths.openssl_cafile),
            (paths.openssl_capath_env, paths.openssl_capath),
        )
    )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the file system does not answer"
    if isinstance(error, ssl.SSLError):
        return "it holds no certificates in PEM"
    return getattr(error, "strerror", None) or str(error)
