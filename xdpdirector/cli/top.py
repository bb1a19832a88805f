# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector top`: who gets how much right now, on a terminal of 80 columns and 24 lines, or a larger one."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xdpdirector.cli.context import Target, target
from xdpdirector.cli.rates import Rate, Rates, Snapshot, between
from xdpdirector.cli.render import number, state, terminal, write
from xdpdirector.client import Client

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

WIDTH, HEIGHT = 80, 24
NARROWEST_BAR = 8
MOST_REASONS = 6
_SCALE = ((1e9, "G"), (1e6, "M"), (1e3, "k"))

Interval = Annotated[float, typer.Option(min=0.1, max=60, help="Seconds between two looks.")]
Once = Annotated[bool, typer.Option("--once", help="One look over one interval, then the end.")]


def top(context: typer.Context, interval: Interval = 1.0, once: Once = False) -> None:
    """Live: who gets how much. q quits.

    Packets and new connections a second, of each service and backend, and the verdicts on packets. Without a
    terminal it is one look, as with --once.
    """
    chosen = target(context)
    if once or not sys.stdout.isatty():
        _once(chosen, interval)
    else:
        _live(chosen, interval)


def _once(chosen: Target, interval: float) -> None:
    client = chosen.client()
    before = _snapshot(client)
    time.sleep(interval)
    console = terminal(WIDTH)
    with console.capture() as capture:
        for part in screen(chosen.instance, before, _snapshot(client), WIDTH, 10_000):
            console.print(part)
    write("".join(line.rstrip() + "\n" for line in capture.get().splitlines()))


def _live(chosen: Target, interval: float) -> None:
    from rich.console import Group
    from rich.live import Live

    from xdpdirector.cli import keyboard

    client, console = chosen.client(), terminal()
    before = after = _snapshot(client)
    with (
        contextlib.suppress(KeyboardInterrupt),
        keyboard.keys(),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            parts = screen(chosen.instance, before, after, console.width, console.height)
            live.update(Group(*parts), refresh=True)
            if keyboard.is_over(interval):
                return
            before, after = after, _snapshot(client)


def _snapshot(client: Client) -> Snapshot:
    return Snapshot(
        time.monotonic(),
        client.get("/readyz"),
        client.get("/v1/stats"),
        client.pages("/v1/services")["items"],
    )


def screen(
    instance: str, before: Snapshot, after: Snapshot, width: int, height: int
) -> Iterator[RenderableType]:
    """Not more than so many lines, of which none is longer than that."""
    rates = between(before, after)
    reasons = sorted(filter(lambda each: each[1], rates.verdicts.items()), key=lambda each: -each[1])
    reasons = reasons[: max(1, min(MOST_REASONS, height - 9))]
    yield _headline(instance, after, width)
    yield _totals(rates)
    yield ""
    yield _backends(after, rates, width, max(1, height - 7 - len(reasons)))
    yield ""
    yield _verdicts(reasons, width)


def _headline(instance: str, snapshot: Snapshot, width: int) -> Text:
    from rich.text import Text

    ready = snapshot.readiness["ready"]
    places = ", ".join(f"{each['interface']} {each['mode']}" for each in snapshot.statistics["attachments"])
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{instance} ", style="bold")
    line.append("ready" if ready else "NOT ready", style="green" if ready else "bold red")
    line.append(
        f"  {places or 'no interface'}  {number(snapshot.statistics['connections'])} connections stored"
    )
    clock = f"{datetime.now():%H:%M:%S}"
    line.append(clock.rjust(max(len(clock) + 2, width - len(line))))
    return line


def _totals(rates: Rates) -> Text:
    from rich.text import Text

    total = rates.total
    text = (
        f"{short(total.packets)} packets/s  {short(total.bits)}bit/s  {short(total.connections)} new/s  "
        f"{short(rates.of_verdict('reject'))} rejected/s  {short(rates.of_verdict('drop'))} dropped/s"
    )
    return Text(text, style="bold", no_wrap=True, overflow="ellipsis")


def _backends(snapshot: Snapshot, rates: Rates, width: int, room: int) -> Table:
    rows = _rows(snapshot, rates)
    shown, left = rows[:room], 0
    if len(rows) > room:
        busiest = sorted((row for row in rows if row[1]), key=lambda row: -row[3].packets)
        shown, left = busiest[: max(0, room - 1)], len(busiest) - max(0, room - 1)
    made = _table("SERVICE/BACKEND STATE >ACTIVE >NEW/S >PACKETS/S SHARE")
    made.columns[0].overflow = "ellipsis"
    made.columns[0].max_width = max(12, width - 58)
    bar = max(NARROWEST_BAR, min(40, width - made.columns[0].max_width - 44))
    for service, backend, document, rate in shown:
        name = f"  {backend}" if backend and not left else f"{service}/{backend}" if backend else service
        share = rate.packets / all_of if backend and (all_of := rates.of_service(service).packets) else 0.0
        made.add_row(
            _bold(name, not backend),
            _condition(document),
            number(document["connections"]["active"]),
            short(rate.connections),
            short(rate.packets),
            _bar(share, bar) if backend else "",
        )
    if left:
        made.add_row(f"and {left} less busy")
    if not rows:
        made.add_row("no services")
    return made


def _condition(document: dict[str, Any]) -> Text:
    """Of a service or a backend, in at most 11 characters; with the share of its SYNs that were sent again where
    passive health says something against it."""
    passive = document.get("passive")
    if document["admin"] != "enabled":
        return _state(document["admin"])
    if not passive or passive["state"] == "normal" or document["operational"] == "down":
        return _state(document["operational"])
    share = "" if passive["share"] is None else f" {passive['share']:.0%}"
    return _styled(passive["state"] + share, state(passive["state"]).style)


def _rows(snapshot: Snapshot, rates: Rates) -> list[tuple[str, str, dict[str, Any], Rate]]:
    """Of each service and each backend: names (a service's second is empty), what is shown, and its rate."""
    rows = []
    for one in snapshot.services:
        active = sum(each["connections"]["active"] for each in one["backends"])
        shown = {"operational": one["operational"], "admin": "enabled", "connections": {"active": active}}
        rows.append((one["name"], "", shown, rates.of_service(one["name"])))
        rows += [
            (one["name"], each["name"], each, rates.backends.get((one["name"], each["name"]), Rate()))
            for each in one["backends"]
        ]
    return rows


def _verdicts(reasons: list[tuple[str, float]], width: int) -> Table:
    made = _table("VERDICT >PACKETS/S")
    made.add_column("")
    everything = sum(rate for _, rate in reasons) or 1.0
    for reason, rate in reasons:
        colour = {"drop": "red", "reject": "yellow"}.get(reason.partition("_")[0], "")
        made.add_row(_styled(reason, colour), short(rate), _bar(rate / everything, min(40, width - 40)))
    if not reasons:
        made.add_row("no packets")
    return made


def _table(columns: str) -> Table:
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns.split():
        right = column.startswith(">")
        made.add_column(column.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    return made


def _state(word: str) -> Text:
    return _styled(word, state(word).style)


def _bold(text: str, is_bold: bool) -> Text:
    return _styled(text, "bold" if is_bold else "")


def _styled(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(text, style=style)


def _bar(share: float, width: int) -> str:
    full = round(share * width)
    return "█" * full + "·" * (width - full)


def short(value: float) -> str:
    """Three digits and a unit: 1.23k."""
    for scale, unit in _SCALE:
        if value >= scale * 0.9995:
            return f"{value / scale:.3g}{unit}"
    return f"{value:.3g}" if value < 10 else f"{value:.0f}"
