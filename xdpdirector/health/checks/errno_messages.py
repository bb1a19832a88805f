# SPDX-License-Identifier: Apache-2.0
"""Translates errno values to sentences about a backend, or about this director.

An error counts against a backend only if the backend, or a router on the path, caused it. All others, known
here or not, are this director's own: the state stays.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Literal

from xdpdirector.health.checks import CheckFailed, CheckImpossible, Dial, Target
from xdpdirector.model.durations import format_duration
from xdpdirector.model.patterns import Search

_NO_WAY = "no way to {backend}: it does not answer ARP or neighbour discovery, or a firewall on it refuses"
_NOT_THERE = {
    errno.ECONNREFUSED: "nothing listens on {target} (connection refused)",
    errno.ETIMEDOUT: "no answer from {target}",
    errno.EHOSTUNREACH: _NO_WAY,
    errno.EHOSTDOWN: _NO_WAY,
    errno.ENONET: _NO_WAY,
}
# Caused by the peer, through TCP or ICMP (net/ipv4/icmp.c, icmp_err_convert; net/ipv6/icmp.c, tab_unreach).
_FAILURES = {
    errno.ECONNRESET: "{target} reset the connection",
    errno.ECONNABORTED: "{target} broke the connection off",
    errno.EPIPE: "{target} closed the connection",
    errno.ENOPROTOOPT: "{host} does not speak the protocol (ICMP: protocol unreachable)",
    errno.EPROTO: "{host} does not understand the question (ICMP: parameter problem)",
}
_FIREWALL = "a firewall on this director forbids connections to {target}"
_OUR_OWN = {
    errno.EMFILE: "this director has no file descriptor left (raise LimitNOFILE)",
    errno.ENFILE: "this machine has no file descriptor left (raise fs.file-max)",
    errno.ENOBUFS: "this machine has no buffer memory left",
    errno.ENOMEM: "this machine has no memory left",
    errno.EADDRNOTAVAIL: "this machine has no free port or no address for a connection to {target}",
    errno.EADDRINUSE: "this machine has no free port for a connection to {target}",
    errno.ENETUNREACH: "no route leads from this director to the network of {backend}",
    errno.ENETDOWN: "this director's interface to {backend} is down",
    errno.ENODEV: "this director's interface to {backend} is gone",
    errno.EAFNOSUPPORT: "this machine does not speak the protocol of {host}",
    errno.EACCES: _FIREWALL,
    errno.EPERM: _FIREWALL,
}


def sentence(error: OSError, target: Target) -> CheckFailed | CheckImpossible:
    """The error for an OSError after something was sent to the backend: CheckImpossible if this director
    caused it."""
    number = error.errno or 0
    words = {"target": target, "host": target.host, "backend": target.backend}
    if number in _NOT_THERE:
        absence: Literal["refused", "silent"] = "refused" if number == errno.ECONNREFUSED else "silent"
        return CheckFailed(_NOT_THERE[number].format(**words), absence=absence)
    if number == errno.EACCES and target.address.version == 6:  # ICMPv6: administratively prohibited
        return CheckFailed(f"a firewall refuses connections to {target}")
    if number in _FAILURES:
        return CheckFailed(_FAILURES[number].format(**words))
    return impossible(error, target)


def impossible(error: OSError, target: Target) -> CheckImpossible:
    """The error for an OSError before anything was sent to the backend."""
    words = {"target": target, "host": target.host, "backend": target.backend}
    number = error.errno or 0
    if number in _OUR_OWN:
        return CheckImpossible(_OUR_OWN[number].format(**words))
    return CheckImpossible(f"{target} cannot be asked: {error.strerror or os.strerror(number)}")


async def dialled(dial: Dial, target: Target, kind: int, protocol: int = 0) -> socket.socket:
    """A socket to probe with. CheckImpossible."""
    try:
        return await dial(target, kind, protocol)
    except PermissionError as error:
        raise CheckImpossible(
            f"this director may not make a socket to ask {target}: {error.strerror}"
        ) from error
    except OSError as error:
        raise impossible(error, target) from error


def late_search(search: Search, target: Target, timeout: float) -> CheckFailed | CheckImpossible:
    """The answer arrived, but was not searched in time."""
    within = format_duration(timeout)
    if search.begun:
        return CheckFailed(
            f"the answer of {target} could not be searched for '{search.text}' within {within}"
        )
    return CheckImpossible(
        f"no search for '{search.text}' started within {within}: other searches take too long"
    )
