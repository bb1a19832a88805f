# SPDX-License-Identifier: Apache-2.0
"""POP3 and IMAP over TLS: Dovecot, curl, and openssl for a session that lasts.

A name is the subject of a backend's only letter.
"""

from __future__ import annotations

import re
import shutil

from xdpdirector.lab.host import Host, run
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

POP3, IMAP = 995, 993
USER, PASSWORD = "lab", "secret"
_OWNER = "mail"
_DOVECOT = """\
base_dir = {directory}/run
state_dir = {directory}/state
instance_name = {instance}
log_path = /dev/stderr
protocols = imap pop3
listen = *, ::
login_greeting = {name}
ssl = required
first_valid_uid = 1
"""
# Dovecot 2.4 (Debian 13) has other names for these settings, and wants its two versions first.
_DOVECOT_2_3 = """\
ssl_cert = <{certificate}
ssl_key = <{key}
mail_location = maildir:{directory}/maildir
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={owner} gid={owner} home={directory}
}}
"""
_DOVECOT_2_4_VERSIONS = """\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
"""
_DOVECOT_2_4 = """\
ssl_server_cert_file = {certificate}
ssl_server_key_file = {key}
mail_driver = maildir
mail_path = {directory}/maildir
passdb static {{
  password = {password}
}}
userdb static {{
  fields {{
    uid = {owner}
    gid = {owner}
    home = {directory}
  }}
}}
"""
_LETTER = "From: me@client.example\nSubject: {name}\n\nhello\n"
_SUBJECT = re.compile(rf"^Subject: {BACKEND}\r\n\s*(?:\.|\)\r\nc OK .*)\r\n", re.MULTILINE)  # POP3, IMAP


def kind(stock: Stock) -> Kind:
    def server(host: Host) -> Server:
        return Program(host, "mailbox", _prepare(host, stock), tcp=(POP3, IMAP), package="dovecot-imapd")

    def client(name: str, port: int, url: str, opening: str, question: str, farewell: str) -> Client:
        def visit(vip: Address) -> Script:
            return Script(
                (
                    *("curl", "--silent", "--show-error", "--cacert", str(stock.certificate)),
                    *("--max-time", "10", "--user", f"{USER}:{PASSWORD}", url.format(authority(vip))),
                ),
                re.compile(rf"^Subject: {BACKEND}\r?\n", re.MULTILINE),
            )

        def stay(vip: Address) -> Script:
            """A client that has logged in and looks for mail again and again."""
            return Script(
                (
                    *("openssl", "s_client", "-connect", f"{authority(vip)}:{port}"),
                    *("-quiet", "-nocommands", "-crlf", "-verify_return_error"),
                    *("-CAfile", str(stock.certificate)),
                ),
                _SUBJECT,
                opening=opening,
                question=question,
                farewell=farewell,
            )

        return Client(name, "curl", visit, stay)

    return Kind(
        name="mailbox",
        ports=(f"{POP3}/tcp", f"{IMAP}/tcp"),
        check={"type": "imap", "port": IMAP, "tls": "direct"},
        server=server,
        clients=(
            client(
                *("POP3, TLS", POP3, "pop3s://{}/1"),
                opening=f"USER {USER}\nPASS {PASSWORD}\n",
                question="TOP 1 0\n",
                farewell="QUIT\n",
            ),
            client(
                *("IMAP, TLS", IMAP, "imaps://{}/INBOX;MAILINDEX=1"),
                opening=f"a LOGIN {USER} {PASSWORD}\nb SELECT INBOX\n",
                question="c FETCH 1 BODY.PEEK[HEADER.FIELDS (SUBJECT)]\n",
                farewell="d LOGOUT\n",
            ),
        ),
    )


def _template(version: str) -> str:
    """The configuration for a Dovecot that says this of itself: `2.3.19.1 (9b53102964)`, say."""
    if tuple(int(part) for part in version.split(".")[:2]) < (2, 4):
        return _DOVECOT + _DOVECOT_2_3
    return _DOVECOT_2_4_VERSIONS + _DOVECOT + _DOVECOT_2_4


def _prepare(host: Host, stock: Stock) -> list[str]:
    directory = host.directory("mailbox")
    for name in ("", "cur", "new", "tmp"):
        (directory / "maildir" / name).mkdir(exist_ok=True)
        shutil.chown(directory / "maildir" / name, _OWNER, _OWNER)
    (directory / "maildir" / "cur" / "1.letter:2,S").write_text(_LETTER.format(name=host.name))
    for name in ("run", "state"):
        (directory / name).mkdir(exist_ok=True)
    configuration = directory / "dovecot.conf"
    configuration.write_text(
        _template(run("dovecot", "--version").stdout).format(
            directory=directory,
            instance=host.node.namespace,
            name=host.name,
            certificate=stock.certificate,
            key=stock.key,
            password=PASSWORD,
            owner=_OWNER,
        )
    )
    return ["dovecot", "-F", "-c", str(configuration)]
