# SPDX-License-Identifier: Apache-2.0
"""Raises the limit of open files (RLIMIT_NOFILE) to what the daemon may need.

The usual limit of 1,024 is for programs that use select(2). Knows nothing of what is opened.
"""

from __future__ import annotations

import resource

from xdpdirector.errors import CapacityError

ENOUGH = 1 << 16
LEAST = 128
"""A daemon that does nothing has some 70."""


def require() -> None:
    """Raise the limit. CapacityError when that leaves too few for a daemon."""
    limit = raise_limit()
    if 0 <= limit < LEAST:
        raise CapacityError(
            f"this process may open {limit} files and sockets, and a daemon needs {LEAST} at least: raise the "
            "limit (LimitNOFILE= of the unit, `ulimit -n` of a shell)"
        )


def raise_limit() -> int:
    """The limit from now on."""
    present, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if most == resource.RLIM_INFINITY else min(most, ENOUGH)
    if present != resource.RLIM_INFINITY and present < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        return wanted
    return present
