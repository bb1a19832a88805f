# SPDX-License-Identifier: Apache-2.0
"""SMTP on two ports, with STARTTLS: Postfix, swaks, and openssl for a session that lasts.

A name is what the server calls itself. Mail for anybody in `services.example` is put into a maildir of the backend.
"""

from __future__ import annotations

import grp
import pwd
import re
import shutil

from xdpdirector.lab.host import Host
from xdpdirector.lab.servers import Server
from xdpdirector.lab.services.fixtures import HOST_NAME, Stock
from xdpdirector.lab.services.process import Program
from xdpdirector.lab.services.service_def import (
    BACKEND,
    Client,
    Kind,
    Script,
    authority,
)
from xdpdirector.model import Address

PORTS = {"SMTP": 25, "SMTP, submission": 587}
_MAIN = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/lib
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = {user}
setgid_group = postdrop
maillog_file = /dev/stdout
myhostname = {name}
mydestination =
alias_maps =
inet_interfaces = all
inet_protocols = all
smtpd_forbid_unauth_pipelining = no
smtpd_banner = {name} ESMTP
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = may
smtpd_tls_cert_file = {certificate}
smtpd_tls_key_file = {key}
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {directory}
virtual_mailbox_maps = static:mail/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
"""
_MASTER = """\
smtp inet n - n - - smtpd
submission inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
anvil unix - - n - 1 anvil
tlsmgr unix - - n 1000? 1 tlsmgr
virtual unix - n n - - virtual
postlog unix-dgram n - n - 1 postlogd
"""
_USER = "postfix"
_LETTER = "MAIL FROM:<me@client.example>\nRCPT TO:<you@{domain}>\nDATA\nhello\n.\nQUIT\n"


def kind(stock: Stock) -> Kind:
    def server(host: Host) -> Server:
        return Program(host, "smtp", _prepare(host, stock), tcp=tuple(PORTS.values()), package="postfix")

    def client(name: str, port: int) -> Client:
        def visit(vip: Address) -> Script:
            """A letter, over TLS."""
            return Script(
                (
                    *("swaks", "--server", str(vip), "--port", str(port), "--ehlo", "client.example"),
                    *("--from", "me@client.example", "--to", f"you@{HOST_NAME}", "--timeout", "10"),
                    *("-tls", "--tls-ca-path", str(stock.certificate), "--hide-informational"),
                ),
                re.compile(rf"220 {BACKEND} ESMTP.*queued as", re.DOTALL),
            )

        def stay(vip: Address) -> Script:
            """A client that says EHLO again and again, and then has a letter."""
            return Script(
                (
                    *("openssl", "s_client", "-connect", f"{authority(vip)}:{port}", "-starttls", "smtp"),
                    *("-quiet", "-nocommands", "-crlf", "-verify_return_error"),
                    *("-CAfile", str(stock.certificate)),
                ),
                re.compile(rf"^250-{BACKEND}\r?\n", re.MULTILINE),
                question="EHLO client.example\n",
                farewell=_LETTER.format(domain=HOST_NAME),
                parting=re.compile("queued as"),
            )

        return Client(name, "swaks", visit, stay)

    return Kind(
        name="smtp",
        ports=tuple(f"{port}/tcp" for port in PORTS.values()),
        check={"type": "smtp", "port": PORTS["SMTP"], "tls": "start"},
        server=server,
        clients=tuple(client(name, port) for name, port in PORTS.items()),
    )


def _prepare(host: Host, stock: Stock) -> list[str]:
    directory = host.directory("smtp")
    for name in ("etc", "spool", "lib", "mail"):
        (directory / name).mkdir(exist_ok=True)
    for name in ("lib", "mail"):
        shutil.chown(directory / name, _USER)
    main = _MAIN.format(
        directory=directory,
        name=host.name,
        user=_USER,
        certificate=stock.certificate,
        key=stock.key,
        domain=HOST_NAME,
        uid=pwd.getpwnam(_USER).pw_uid,
        gid=grp.getgrnam(_USER).gr_gid,
    )
    (directory / "etc" / "main.cf").write_text(main)
    (directory / "etc" / "master.cf").write_text(_MASTER)
    return ["postfix", "-c", str(directory / "etc"), "start-fg"]
