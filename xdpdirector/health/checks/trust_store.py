# SPDX-License-Identifier: Apache-2.0
"""The authorities that checks trust, kept as TLS contexts: a file's, or this machine's own.

A file is looked at again before a try, once a second at most, and read anew when it is another one than before.
What cannot be read anew is told, and what was read last goes on: a broken file says nothing about a server. All of
it happens in threads, for nobody knows how fast a file system is.
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
READ_WITHIN = 5.0  # seconds; a file system that is away answers never
_MOST = 64  # files
_KEPT = 3  # intervals in which somebody asks again


@dataclass
class _Known:
    """`trouble`: why it could not be read again. `until`: when nobody asks for it any more (monotonic)."""

    context: ssl.SSLContext
    state: tuple[Fingerprint | None, ...]
    looked: float
    until: float = 0.0
    trouble: str = ""


_known: dict[str | None, _Known] = {}


async def trusted(spec: Secured) -> ssl.SSLContext:
    """What the check trusts, as it is now. CheckImpossible when it never could be read."""
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
    """Whether others are there than were read last. The next one who asks gets them."""
    known = _known.get(ca)
    if known is None:
        return False
    known.looked = -LOOK_APART
    return await asyncio.to_thread(_states, ca) != known.state


def forget() -> None:
    """Read all of them again when they are asked for."""
    for known in _known.values():
        known.looked, known.state = -LOOK_APART, ()


def notes() -> list[str]:
    """A sentence for each file that checks want, and that cannot be read again."""
    now = time.monotonic()
    return sorted(known.trouble for known in _known.values() if known.trouble and now < known.until)


@cache
def _everybody() -> ssl.SSLContext:
    """The question is whether the server works, not how good its encryption is: old ones are asked as well."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    return context


def _look(ca: str | None, known: _Known | None) -> _Known:
    """In a thread. OSError, ValueError."""
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
