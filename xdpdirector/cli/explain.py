# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector explain`: what would become of a packet, and why."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from xdpdirector.cli import complete
from xdpdirector.cli.context import Format, Output, target
from xdpdirector.cli.render import Parts, answer, endpoint, state, table
from xdpdirector.model.listener import WITH_PORTS, Listener

ANY_PORT = 40000  # of a client that does not say

Client = Annotated[
    str, typer.Argument(metavar="CLIENT[:PORT]", help="Like 198.51.100.7:40000 or [2001:db8::7]:40000.")
]
At = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS:PORT/PROTOCOL",
        help="Whom it is for, like 192.0.2.10:80/tcp.",
        autocompletion=complete.listeners,
    ),
]
Flags = Annotated[
    str,
    typer.Option(
        help="TCP's, by their first letters: S opens a connection, A is of a running one. SCTP has chunks for it."
    ),
]
Payload = Annotated[
    str,
    typer.Option(
        metavar="HEX",
        help="What a datagram carries, such as a QUIC packet with its connection ID.",
        show_default=False,
    ),
]
Interface = Annotated[
    str | None,
    typer.Option(help="The interface on which it arrives.", show_default="the first that carries it"),
]


def explain(
    context: typer.Context,
    client: Client,
    listener: At,
    flags: Flags = "S",
    payload: Payload = "",
    interface: Interface = None,
    output: Output = Format.TABLE,
) -> None:
    """What would become of a packet, and why.

    The packet program itself is asked; nothing is sent, counted or remembered. The first answer takes a second or
    two: the program that explains is compiled then.
    """
    address, port = _client(client)
    at = _listener(listener)
    body = {
        "client": address,
        "client_port": port,
        "vip": str(at.address),
        "port": at.ports.first,
        "protocol": at.protocol,
        "flags": flags.upper() if at.shows_connections else "",
        "payload": payload,
        "interface": interface,
    }
    document = target(context).client().post("/v1/explain", body, timeout=None)
    answer(output, document, lambda: _shown(body, document))


def _client(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"\[(?P<v6>[^\]]+)\](?::(?P<port6>\d+))?|(?P<v4>[\d.]+)(?::(?P<port4>\d+))?", text)
    if not found:
        return text, ANY_PORT  # an IPv6 address alone; the daemon judges it
    return found["v6"] or found["v4"], int(found["port6"] or found["port4"] or ANY_PORT)


def _listener(text: str) -> Listener:
    try:
        listener = Listener.parse(text if "/" in text else f"{text}/tcp")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if listener.protocol in WITH_PORTS and not listener.is_exact:
        raise typer.BadParameter(f"'{text}' has many ports: name one of them")
    return listener


def _shown(asked: dict[str, Any], found: dict[str, Any]) -> Parts:
    listener = f"{endpoint(asked['vip'], asked['port'])}/{asked['protocol']}"
    flags = f" {asked['flags']}" if asked["flags"] else ""
    client = endpoint(asked["client"], asked["client_port"])
    yield f"{client} -> {listener}{flags}, coming in on {found['interface']}"
    yield ""
    yield _what(found)
    yield f"  because {found['why']}"
    if found["candidates"]:
        yield ""
        yield _candidates(found)


def _what(found: dict[str, Any]) -> str:
    """In words, with the reason as the counters name it."""
    reason = f"[{found['reason']}]"
    if found["verdict"] == "forward" and found["mac"]:
        return (
            f"forward to {found['service']}/{found['backend']}, {found['mac']} on {found['way_out']} {reason}"
        )
    if found["reason"] == "pass_local":
        return f"pass to this host, which is {found['service']}/{found['backend']} {reason}"
    done = {"pass": "pass to this host", "reject": "reject: answer the client", "drop": "drop"}
    return f"{done.get(found['verdict'], found['verdict'])} {reason}"


def _candidates(found: dict[str, Any]) -> Any:
    rows = table("BACKEND >WEIGHT SERVING >ACTIVE >INACTIVE CHOSEN")
    for each in found["candidates"]:
        rows.add_row(
            each["backend"],
            f"{each['weight']:g}",
            state("yes" if each["serving"] else "no"),
            str(each["active"]),
            str(each["inactive"]),
            "<--" if each["backend"] == found["backend"] else "",
        )
    return rows
