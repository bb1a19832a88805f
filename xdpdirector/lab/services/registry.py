# SPDX-License-Identifier: Apache-2.0
"""The services there are, by name, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import MappingProxyType

from xdpdirector.errors import InvalidRequestError
from xdpdirector.lab.services import dns, ftp, ldap, mailbox, mariadb, postgres, smtp, ssh, web
from xdpdirector.lab.services.fixtures import Stock
from xdpdirector.lab.services.service_def import Kind

KINDS = MappingProxyType[str, Callable[[Stock], Kind]](
    {
        "web": web.kind,
        "smtp": smtp.kind,
        "mailbox": mailbox.kind,
        "ldap": ldap.kind,
        "postgres": postgres.kind,
        "mariadb": mariadb.kind,
        "ftp": ftp.kind,
        "dns": dns.kind,
        "ssh": ssh.kind,
    }
)


def chosen(names: Iterable[str]) -> list[Callable[[Stock], Kind]]:
    """Those named, or all; InvalidRequestError lists the names there are."""
    names = list(dict.fromkeys(names)) or list(KINDS)
    for name in names:
        if name not in KINDS:
            raise InvalidRequestError(f"there is no service '{name}': there are {', '.join(KINDS)}")
    return [KINDS[name] for name in names]
