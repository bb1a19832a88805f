# SPDX-License-Identifier: Apache-2.0
"""The system's error numbers as sentences about a backend, or about this director. Pure."""

from __future__ import annotations

import errno
from typing import Literal

from xdpdirector.checks import CheckFailed, CheckImpossible, Target
from xdpdirector.durations import format_duration
from xdpdirector.patterns import Search

_NOT_THERE = {
    errno.ECONNREFUSED: "nothing listens on {target} (connection refused)",
    errno.ETIMEDOUT: "no answer from {target}",
    errno.EHOSTUNREACH: "no way to {backend}: it does not answer ARP or neighbour discovery",
    errno.EHOSTDOWN: "no way to {backend}: it does not answer ARP or neighbour discovery",
}
_FAILURES = {
    errno.ECONNRESET: "{target} reset the connection",
    errno.EPIPE: "{target} closed the connection",
    errno.EACCES: "a firewall on this director forbids connections to {target}",
    errno.EPERM: "a firewall on this director forbids connections to {target}",
}
_OUR_OWN = {
    errno.EMFILE: "this director has no file descriptor left (raise LimitNOFILE)",
    errno.ENFILE: "this machine has no file descriptor left (raise fs.file-max)",
    errno.ENOBUFS: "this machine has no buffer memory left",
    errno.ENOMEM: "this machine has no memory left",
    errno.EADDRNOTAVAIL: "this machine has no free port or no address for a connection to {target}",
    errno.ENETUNREACH: "no route leads from this director to the network of {backend}",
    errno.ENETDOWN: "this director's interface to {backend} is down",
    errno.ENODEV: "this director's interface to {backend} is gone",
    errno.EAFNOSUPPORT: "this machine does not speak the protocol of {host}",
}


def sentence(error: OSError, target: Target) -> CheckFailed | CheckImpossible:
    """The verdict that a system error means: CheckImpossible when the lack is ours."""
    number = error.errno or 0
    words = {"target": target, "host": target.host, "backend": target.backend}
    if number in _OUR_OWN:
        return CheckImpossible(_OUR_OWN[number].format(**words))
    if number in _NOT_THERE:
        absence: Literal["refused", "silent"] = "refused" if number == errno.ECONNREFUSED else "silent"
        return CheckFailed(_NOT_THERE[number].format(**words), absence=absence)
    return CheckFailed(_FAILURES.get(number, f"{{target}}: {error.strerror}").format(**words))


def late_search(search: Search, target: Target, timeout: float) -> CheckFailed | CheckImpossible:
    """The answer came, but was not searched through in time."""
    within = format_duration(timeout)
    if search.begun:
        return CheckFailed(
            f"the answer of {target} could not be searched for '{search.text}' within {within}"
        )
    return CheckImpossible(f"no search for '{search.text}' could begin within {within}: others take too long")
