# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector trace`: what becomes of packets, packet by packet, on the screen or for Wireshark."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xdpdirector.cli import complete
from xdpdirector.cli.context import Format, Output, target
from xdpdirector.cli.render import endpoint, entry, paint

if TYPE_CHECKING:
    from xdpdirector.replay.pcapng import Writer

_COLOURS = {"forward": "", "pass": "cyan", "reject": "yellow", "drop": "bold red"}

Service = Annotated[
    list[str] | None,
    typer.Option(help="Only of this service; may be repeated.", autocompletion=complete.services),
]
Backend = Annotated[
    str | None,
    typer.Option(metavar="SERVICE/BACKEND", help="Only of this backend.", autocompletion=complete.backends),
]
Client = Annotated[str | None, typer.Option(metavar="ADDRESS[/BITS]", help="Only of these clients.")]
Reason = Annotated[
    str | None, typer.Option(help="Only with these reasons, like drop,forward_new; commas between.")
]
Rate = Annotated[int, typer.Option(help="Not more than so many a second.")]
OneIn = Annotated[int, typer.Option("--one-in", help="Of those that match one in so many, at random.")]
Count = Annotated[int | None, typer.Option("--count", "-n", help="End after so many.")]
Seconds = Annotated[float | None, typer.Option(help="End after so long.")]
Write = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.pcapng", help="Write the frames' first bytes, for Wireshark; - is standard output."
    ),
]


def trace(
    context: typer.Context,
    service: Service = None,
    backend: Backend = None,
    client: Client = None,
    reason: Reason = None,
    rate: Rate = 100,
    one_in: OneIn = 1,
    count: Count = None,
    seconds: Seconds = None,
    write: Write = None,
    output: Output = Format.TABLE,
) -> None:
    """What becomes of packets, packet by packet.

    Until Ctrl-C, or as long as is asked for. It costs the packets of the services that are watched a little.
    """
    asked = {
        "service": service,
        "backend": backend,
        "client": client,
        "reason": reason,
        "rate": rate,
        "one_in": one_in,
        "count": count,
        "seconds": seconds,
        "frames": "true" if write else None,
    }
    seen: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        writer = _writer(write, stack) if write else None
        stack.callback(_total, seen)
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        for message in target(context).client().stream("/v1/trace", asked):
            document = json.loads(message.data)
            if message.event == "missed":
                seen["missed"] += document["count"]
                continue
            seen["decisions"] += 1
            if writer:
                _write(writer, document)
            else:
                entry(output, document, lambda: _line(document))  # noqa: B023 called at once


def _writer(path: Path, stack: contextlib.ExitStack) -> Writer:
    from xdpdirector.replay.pcapng import Writer

    if str(path) == "-":
        return Writer(sys.stdout.buffer)
    try:
        return Writer(stack.enter_context(path.open("wb")))
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}") from error


def _write(writer: Writer, document: dict[str, Any]) -> None:
    frame = base64.b64decode(document["frame"])
    time = datetime.fromisoformat(document["time"]).timestamp()
    writer.packet(frame, document["length"], time, document["interface"] or "gone", _outcome(document))


def _total(seen: Counter[str]) -> None:
    missed = f"; {seen['missed']:,} more were not reported" if seen["missed"] else ""
    print(f"{seen['decisions']:,} decisions{missed}", file=sys.stderr)


def _outcome(document: dict[str, Any]) -> str:
    name = f"{document['service']}/{document['backend']}" if document["backend"] else document["service"]
    return f"{document['reason']} {name}"


def _line(document: dict[str, Any]) -> str:
    at = f"{datetime.fromisoformat(document['time']).astimezone():%H:%M:%S.%f}"[:-3]
    client = endpoint(document["client"], document["client_port"])
    listener = f"{endpoint(document['vip'], document['port'])}/{document['protocol']}"
    outcome = paint(_outcome(document), _COLOURS.get(document["verdict"], ""))
    return paint(f"{at}  {client:<21} > {listener:<22} {document['flags']:<3} ", "") + outcome
