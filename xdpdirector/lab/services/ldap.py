# SPDX-License-Identifier: Apache-2.0
"""LDAP and LDAP over TLS: OpenLDAP's slapd and ldapsearch. A name is an entry of the directory."""

from __future__ import annotations

import re

from xdpdirector.lab.host import Host
from xdpdirector.lab.servers import Server
from xdpdirector.lab.services.fixtures import Stock
from xdpdirector.lab.services.process import Program
from xdpdirector.lab.services.service_def import (
    BACKEND,
    Client,
    Kind,
    Script,
    authority,
)
from xdpdirector.model import Address

PORTS = {"ldap": 389, "ldaps": 636}
BASE = "dc=services,dc=example"
_SLAPD = """\
modulepath /usr/lib/ldap
moduleload back_mdb
include /etc/ldap/schema/core.schema
pidfile {directory}/pid
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
TLSCACertificateFile {certificate}
database mdb
suffix "{base}"
maxsize 1048576
directory {directory}/data
"""
_ENTRIES = """\
dn: {base}
objectClass: dcObject
objectClass: organization
dc: services
o: services

dn: ou={name},{base}
objectClass: organizationalUnit
ou: {name}
"""


def kind(stock: Stock) -> Kind:
    def server(host: Host) -> Server:
        configuration = _prepare(host, stock)
        where = " ".join(f"{scheme}://:{port}/" for scheme, port in PORTS.items())
        command = ["slapd", "-d", "0", "-h", where, "-f", configuration]
        return Program(host, "ldap", command, tcp=tuple(PORTS.values()), package="slapd")

    def client(name: str, scheme: str) -> Client:
        environment = {"LDAPTLS_CACERT": str(stock.certificate)}
        answer = re.compile(rf"^ou: {BACKEND}\n", re.MULTILINE)

        def command(vip: Address, *more: str) -> tuple[str, ...]:
            url = f"{scheme}://{authority(vip)}"
            return ("ldapsearch", "-x", "-LLL", "-o", "nettimeout=10", "-H", url, "-b", BASE, *more, "ou")

        def visit(vip: Address) -> Script:
            return Script(command(vip, "(ou=backend*)"), answer, environment=environment)

        def stay(vip: Address) -> Script:
            """A line on its standard input is a search."""
            line = command(vip, "-f", "-", "(ou=%s)")
            return Script(line, answer, question="backend*\n", environment=environment)

        return Client(name, "ldapsearch", visit, stay)

    return Kind(
        name="ldap",
        ports=tuple(f"{port}/tcp" for port in PORTS.values()),
        check={"type": "ldap", "port": PORTS["ldap"]},
        server=server,
        clients=(client("LDAP", "ldap"), client("LDAP, TLS", "ldaps")),
    )


def _prepare(host: Host, stock: Stock) -> str:
    directory = host.directory("ldap")
    (directory / "data").mkdir(exist_ok=True)
    configuration, entries = directory / "slapd.conf", directory / "entries.ldif"
    configuration.write_text(
        _SLAPD.format(directory=directory, certificate=stock.certificate, key=stock.key, base=BASE)
    )
    entries.write_text(_ENTRIES.format(base=BASE, name=host.name))
    host.run("slapadd", "-q", "-f", str(configuration), "-l", str(entries))
    return str(configuration)
