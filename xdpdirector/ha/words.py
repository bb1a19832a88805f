# SPDX-License-Identifier: Apache-2.0
"""What may stand in the files of daemons that root runs.

The director says which interfaces and VIPs it has, and it is not root: a name with a brace or a line break would be
a script in keepalived.conf.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from xdpdirector.errors import InvalidRequestError
from xdpdirector.model.listener import Address

_INTERFACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:-]{0,14}", re.ASCII)


def require_plain(interface: str, addresses: Iterable[Address]) -> None:
    """InvalidRequestError for a name, or a scope of an address, that other words could hide in."""
    if not _INTERFACE.fullmatch(interface):
        raise InvalidRequestError(
            f"{interface!r} is no plain name of an interface, and is not written to a file"
        )
    for address in addresses:
        if getattr(address, "scope_id", None) is not None:
            raise InvalidRequestError(f"{str(address)!r} has a scope, and is not written to a file")
