# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask of a health check: one model for each type. Knows no sockets and no services."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from xdpdirector.model import patterns
from xdpdirector.model.durations import format_duration
from xdpdirector.model.fields import (
    NUMBER,
    Flag,
    Frozen,
    Timeout,
    key,
)

STORED = {"stored": True}
"""Context of validation: what an earlier release took and stored is taken in, where this one would refuse it."""


def _expression(text: str, info: ValidationInfo) -> str:
    if info.context != STORED and (why := patterns.refusal(text)):
        raise ValueError(why)
    return text


Word = Annotated[str, Field(pattern=r"^[!-~]+$", max_length=255)]
HostName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$", max_length=253)]
FilePath = Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=1024)]
Expression = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_expression)]


class Checks(Frozen):
    """What the configuration file says of all checks. `allow_exec`: the only programs that `exec` checks may run;
    it cannot be changed at run time."""

    allow_exec: Annotated[tuple[FilePath, ...], Field(max_length=64)] = key(
        (), "The only programs that `exec` checks may run. Cannot be changed at run time."
    )


class CheckBase(Frozen):
    """Fields that every health check has. `interval` runs from start to start, `timeout` bounds one try.

    `via`: `vip` asks the service's VIPs on the backend, as clients do; `address` asks the backend's own address,
    which a server answers even after it lost the VIP.
    """

    interval: Timeout = key(2.0, "From the start of one try to the start of the next.")
    timeout: Timeout = key(1.0, "For all of a try; not longer than `interval`.")
    rise: Annotated[int, Field(ge=1, le=100), NUMBER] = key(
        2, "How many successes in a row bring a backend back.", "tries"
    )
    fall: Annotated[int, Field(ge=1, le=100), NUMBER] = key(
        3, "How many failures in a row take a backend out.", "tries"
    )
    port: Annotated[int, Field(ge=1, le=65535), NUMBER] | None = key(
        None,
        "Where it asks; by default the usual port of its type if the service listens there, else the lowest port "
        "that a listener has alone. Other listeners do not change what is asked.",
    )
    via: Literal["vip", "address"] = key(
        "vip", "Ask the service's VIPs on the backend, or the backend's own address."
    )

    @model_validator(mode="after")
    def _timeout_fits(self) -> Self:
        if self.timeout > self.interval:
            raise ValueError(
                f"timeout {format_duration(self.timeout)} is longer than interval "
                f"{format_duration(self.interval)}: make it shorter, or the interval longer"
            )
        return self

    @property
    def has_port(self) -> bool:
        """Whether it asks a port at all."""
        return True

    def refusal(self, _checks: Checks) -> str:
        """Why it may not be made where this is said of all checks; empty when it may."""
        return ""


class TcpCheck(CheckBase):
    """Healthy when a TCP connection to the port opens in time."""

    type: Literal["tcp"]


class Secured(CheckBase):
    """How TLS is spoken. `server_name` is sent (SNI, RFC 6066) and, with `verify`, looked for in the certificate;
    `ca`: a file of the authorities that are trusted, instead of this machine's."""

    server_name: HostName | None = key(
        None, "The name that is sent (SNI) and, with `verify`, must be in the certificate."
    )
    verify: Flag = key(False, "Whether the certificate is verified; needs a name.")
    ca: FilePath | None = key(
        None, "PEM file of the authorities that are trusted; by default this machine's."
    )

    @model_validator(mode="after")
    def _verifiable(self) -> Self:
        if self.verify and not self.sni:
            raise ValueError("verify needs server_name: the name that the certificate is for")
        if self.ca and not self.verify:
            raise ValueError("ca is of no use without verify: true")
        return self

    @property
    def sni(self) -> str | None:
        """The name that TLS asks for."""
        return self.server_name


class TlsCheck(Secured):
    """Healthy when a TLS handshake succeeds in time, and the certificate is good for `min_days` more."""

    type: Literal["tls"]
    min_days: Annotated[int, Field(ge=0, le=3650), NUMBER] | None = key(
        None, "How long the certificate must still be good; by default it is not looked at.", "days"
    )


class HttpBase(CheckBase):
    """What HTTP is asked. `weight_header`: where the server says what part of its weight it wants, like `75%`."""

    path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=1024)] = key("/", "What GET asks for.")
    host: Word | None = key(None, "The Host header; by default the address that is asked.")
    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599), NUMBER], ...], Field(min_length=1)] = key(
        (200,), "The answers that are good."
    )
    body: Expression | None = key(
        None, "A regular expression (RE2) that must be found in the answer's first 64 KiB."
    )
    weight_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$", max_length=64)] | None = key(
        None, "The header by which the server says what part of its weight it wants, like `75%`."
    )


class HttpCheck(HttpBase):
    """Healthy when GET `path` answers with a status in `status` in time, and `body` is found in the answer."""

    type: Literal["http"]


class HttpsCheck(Secured, HttpBase):
    """As `http`, over TLS. The name of `host` is asked for where `server_name` says none."""

    type: Literal["https"]

    @property
    def sni(self) -> str | None:
        name = re.sub(r":\d+$", "", self.host or "")
        return self.server_name or (name if re.search("[a-zA-Z]", name) else None)


class Conversation(Secured):
    """A line protocol; `tls`: `direct` from the first octet, or `start` by the protocol's own command."""

    tls: Literal["none", "start", "direct"] = key(
        "none", "TLS from the first octet (`direct`), or by the protocol's own command (`start`)."
    )


class SmtpCheck(Conversation):
    """Healthy when the server greets and takes EHLO (RFC 5321), and STARTTLS (RFC 3207) where asked for."""

    type: Literal["smtp"]
    hello: HostName = key("xdpdirector", "The name that EHLO says.")


class Pop3Check(Conversation):
    """Healthy when the server greets with +OK (RFC 1939), and takes STLS (RFC 2595) where asked for."""

    type: Literal["pop3"]


class ImapCheck(Conversation):
    """Healthy when the server greets with OK (RFC 9051), and takes STARTTLS where asked for."""

    type: Literal["imap"]


class FtpCheck(Conversation):
    """Healthy when the server greets with 220 (RFC 959), and takes AUTH TLS (RFC 4217) where asked for."""

    type: Literal["ftp"]


class LdapCheck(Secured):
    """Healthy when the server takes an anonymous bind (RFC 4511) or, with `ask: root_dse`, reads that entry."""

    type: Literal["ldap"]
    tls: Literal["none", "direct"] = key("none", "TLS from the first octet, or none.")
    ask: Literal["bind", "root_dse"] = key("bind", "An anonymous bind, or the root DSE after it.")


class PostgresCheck(CheckBase):
    """Healthy when the server takes the start of a session, or asks for a password or says that it wants another
    user: that it lives. It is not when it starts up, shuts down or has no connection left."""

    type: Literal["postgres"]
    user: Word = key("xdpdirector", "Whom the session is started for; no password is ever sent.")
    database: Word | None = key(None, "Which database; by default that of the user's name.")


class MysqlCheck(CheckBase):
    """Healthy when the server finishes the handshake, with or without letting this user in (no password)."""

    type: Literal["mysql"]
    user: Word = key("xdpdirector", "Who asks to be let in, without a password.")


class DnsCheck(CheckBase):
    """Healthy when the question is answered with this code and, if given, this record among the answers."""

    type: Literal["dns"]
    name: Annotated[str, Field(pattern=r"^[!-~]+$", max_length=253)] = Field(
        description="The name that is asked for."
    )
    query: Annotated[str, Field(pattern=r"^[A-Z0-9]+$", max_length=16)] = key("A", "The type of record.")
    rcode: Annotated[str, Field(pattern=r"^[A-Z]+$", max_length=16)] = key(
        "NOERROR", "The code that is expected."
    )
    answer: Annotated[str, Field(min_length=1, max_length=255)] | None = key(
        None, "A record that must be among the answers; by default any, or none."
    )
    transport: Literal["udp", "tcp"] = key("udp", "How it is asked.")


class UdpCheck(CheckBase):
    """Healthy when a datagram is answered and `expect` is found in the answer; without `expect` it is enough
    that no ICMP error says the port is closed, which takes the whole `timeout`. `send_hex` for other than text."""

    type: Literal["udp"]
    send: Annotated[str, Field(max_length=1024)] = key("", "The datagram, as text.")
    send_hex: Annotated[str, Field(pattern=r"^([0-9a-fA-F]{2})*$", max_length=2048)] = key(
        "", "The datagram, as hexadecimal digits."
    )
    expect: Expression | None = key(
        None, "A regular expression (RE2) that must be found in the answer; without it none is awaited."
    )


class IcmpCheck(CheckBase):
    """Healthy when an echo request is answered in time."""

    type: Literal["icmp"]

    @property
    def has_port(self) -> bool:
        return False


class SctpCheck(CheckBase):
    """Healthy when an INIT is answered with an INIT ACK in time (RFC 9260). No association begins."""

    type: Literal["sctp"]


class AgentCheck(CheckBase):
    """Healthy when the server says so, in a line as for HAProxy's agent-check: `up`, `down`, `drain`, `75%`."""

    type: Literal["agent"]
    send: Annotated[str, Field(max_length=255)] = key("", "What is sent before the agent's line is read.")
    via: Literal["vip", "address"] = key(
        "address", "Ask the service's VIPs on the backend, or the backend's own address."
    )


class ExecCheck(CheckBase):
    """Healthy when a program ends with status 0 in time. Only programs that the configuration file allows."""

    type: Literal["exec"]
    command: Annotated[
        tuple[Annotated[str, Field(max_length=1024, pattern=r"^[^\x00]*$")], ...],
        Field(min_length=1, max_length=64),
    ] = Field(description="The program, which `checks.allow_exec` must name, and its arguments; no shell.")
    via: Literal["address"] = key("address", "The program is told the backend's own address.")

    @property
    def has_port(self) -> bool:
        return False

    def refusal(self, checks: Checks) -> str:
        if self.command[0] in checks.allow_exec:
            return ""
        return (
            f"the program '{self.command[0]}' may not be run by a check: add it to checks.allow_exec "
            "in the configuration file, and restart the daemon"
        )


CheckSpec = Annotated[
    TcpCheck
    | TlsCheck
    | HttpCheck
    | HttpsCheck
    | SmtpCheck
    | Pop3Check
    | ImapCheck
    | FtpCheck
    | LdapCheck
    | PostgresCheck
    | MysqlCheck
    | DnsCheck
    | UdpCheck
    | IcmpCheck
    | SctpCheck
    | AgentCheck
    | ExecCheck,
    Field(discriminator="type"),
]

USUAL_PORTS = {
    ("http", False): 80,
    ("https", False): 443,
    ("tls", False): 443,
    ("smtp", False): 25,
    ("smtp", True): 465,
    ("pop3", False): 110,
    ("pop3", True): 995,
    ("imap", False): 143,
    ("imap", True): 993,
    ("ftp", False): 21,
    ("ftp", True): 990,
    ("ldap", False): 389,
    ("ldap", True): 636,
    ("postgres", False): 5432,
    ("mysql", False): 3306,
    ("dns", False): 53,
}
"""By type, and whether it speaks TLS from the first octet."""


def usual_port(check: CheckSpec) -> int | None:
    """Where such a server listens (IANA); None when nothing is usual."""
    return USUAL_PORTS.get((check.type, getattr(check, "tls", "none") == "direct"))
