# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector fleet ...`: the other directors, and the desired state that they share."""

from __future__ import annotations

import sys
import time
from math import inf
from typing import Annotated, Any

import typer

from xdpdirector.cli import complete
from xdpdirector.cli.context import Format, Output, Reason, example, target
from xdpdirector.cli.render import Parts, answer, state, table
from xdpdirector.client import Client, director_path
from xdpdirector.errors import TimedOutError
from xdpdirector.model.durations import parse_duration

app = typer.Typer(help="The other directors: who they are, whose connections this one has, who leaves.")
LONGEST_POLL, LIVELY_POLL = 30.0, 2.0  # seconds
Director = Annotated[
    str,
    typer.Argument(
        metavar="DIRECTOR",
        help="Its name, as `fleet status` has it.",
        show_default=False,
        autocompletion=complete.directors,
    ),
]


@app.command(epilog=example("xdpdirector fleet status"))
def status(context: typer.Context, output: Output = Format.TABLE) -> None:
    """Who the directors are, how far each peer is, and what LVS directors send and get.

    Exit code 1 when connections do not travel in both directions, a director is not ready or behind the others, or
    the store that they share does not answer.
    """
    document = target(context).client().get("/v1/fleet")
    answer(output, document, lambda: show(document))
    lvs = document.get("lvs") or {}
    faults = [lvs[way]["why"] for way in ("incoming", "outgoing") if lvs.get(way)]
    directions = [peer[way] for peer in document["peers"] for way in ("outgoing", "incoming")]
    apart = any(each["state"] not in ("bulk", "synced") for each in directions)
    if document["waiting"] or apart or any(faults) or not _is_one(document):
        raise typer.Exit(1)


@app.command(epilog=example("xdpdirector fleet drain director1 --wait --reason 'kernel update'"))
def drain(
    context: typer.Context,
    name: Director,
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when no traffic comes to it; exit code 5 after --timeout.")
    ] = False,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long to wait, like 10m.", show_default="no end")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also when no other director is ready.")] = False,
    reason: Reason = "",
    output: Output = Format.TABLE,
) -> None:
    """Let a director leave for maintenance: its VIPs go elsewhere, and what comes to it meanwhile is forwarded.

    It stays so when its daemon is restarted, until it is enabled.
    """
    until = inf if timeout is None else time.monotonic() + _seconds(timeout)
    client = target(context).client()
    query = {"force": "true" if force else None}
    document = client.post(f"{director_path(name)}/drain", {"reason": reason}, query)
    if wait:
        document = _drained(client, name, until)
    answer(output, document, lambda: _leaving([document]))


@app.command(epilog=example("xdpdirector fleet enable director1"))
def enable(context: typer.Context, name: Director, output: Output = Format.TABLE) -> None:
    """Let a director take traffic again."""
    document = target(context).client().post(f"{director_path(name)}/enable")
    answer(output, document, lambda: _leaving([document]))


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"--timeout: {error}") from error


def _drained(client: Client, name: str, until: float) -> dict[str, Any]:
    """TimedOutError; ConflictError when somebody enabled it meanwhile."""
    while True:
        left = until - time.monotonic()
        step = max(0.1, min(left, LIVELY_POLL if sys.stderr.isatty() else LONGEST_POLL))
        try:
            query = {"wait": "drained", "timeout": f"{step:.3f}s"}
            drained: dict[str, Any] = client.get(director_path(name), query, timeout=None)
            return drained
        except TimedOutError as error:
            if time.monotonic() >= until:
                raise
            if sys.stderr.isatty():
                print(error.detail, file=sys.stderr)


def _leaving(directors: list[dict[str, Any]]) -> Parts:
    rows = table("DIRECTOR ADMIN STATE >FLOWS REASON WHY")
    for each in directors:
        flows = "" if each["flows"] is None else f"{each['flows']} of {each['flows_at_start']}"
        rows.add_row(
            f"{each['name']} (this one)" if each["this"] else each["name"],
            state(each["admin"]),
            state(each["state"] or "unknown"),
            flows,
            each["reason"],
            "; ".join(each["obstacles"]) if each["live"] else "it is not heard of",
        )
    yield rows


def _is_one(document: dict[str, Any]) -> bool:
    """Whether all directors are ready, with the same revision."""
    seen = document["directors"]
    revisions = {each["revision"] for each in seen}
    return document["store"]["reached"] and len(revisions) < 2 and all(each["ready"] for each in seen)


def _directors(document: dict[str, Any]) -> Parts:
    store = document["store"]
    if store["type"] != "etcd":
        return
    if store["reached"]:
        yield f"The desired state is in etcd, asked at {store['endpoint']}."
    else:
        age = "has not been seen since the start" if store["age"] is None else f"is {store['age']:.0f} s old"
        yield f"What is known of the desired state {age}: {store['why']}"
    yield ""
    rows = table("DIRECTOR VERSION >REVISION READY")
    for each in document["directors"]:
        ready = state("ready") if each["ready"] else f"not ready: {each['why']}"
        name = f"{each['name']} (this one)" if each["name"] == document["name"] else each["name"]
        rows.add_row(name, each["version"], str(each["revision"]), ready)
    yield rows
    yield ""
    yield from _verdicts(document["directors"])


def _verdicts(directors: list[dict[str, Any]]) -> Parts:
    """On what they differ."""
    found: dict[str, list[str]] = {}
    for each in directors:
        for backend, vips in (each["down"] or {}).items():
            for vip in vips:
                found.setdefault(f"{backend} for VIP {vip}", []).append(each["name"])
    voters = [each["name"] for each in directors if each["down"] is not None]
    differing = {place: names for place, names in found.items() if len(names) < len(voters)}
    for place, names in sorted(differing.items()):
        yield f"{place} is down at {', '.join(names)}, and at none of the others"
    if differing:
        yield ""


def show(document: dict[str, Any]) -> Parts:
    """What is wrong comes below the table."""
    yield from _directors(document)
    if document["leaving"]:
        yield from _leaving(document["leaving"])
        yield ""
    if not document["peers"]:
        if not document.get("lvs"):
            yield "This director has no peers: see `sync` of the configuration."
    else:
        yield from _peers(document)
    if document.get("lvs"):
        yield from _lvs(document["lvs"])


def _lvs(lvs: dict[str, Any]) -> Parts:
    yield f"LVS directors: {lvs['role']} on {lvs['interface']}, group {lvs['group']}, syncid {lvs['syncid']}"
    if came := lvs["incoming"]:
        if came["why"]:
            yield f"nothing comes in: {came['why']}"
        heard = "never" if came["heard"] is None else f"{came['heard']:.0f} s ago"
        yield (
            f"{came['datagrams']} datagrams came, the last one {heard}; of another syncid: {came['foreign']}, "
            f"malformed: {came['malformed']}, lost: {came['lost']}"
        )
        rows = table("WHAT >INSERTED >UPDATED >KEPT >CONFLICTS >FULL")
        for what in ("connections", "templates"):
            rows.add_row(
                what,
                *(str(came[what][each]) for each in ("inserted", "updated", "kept", "conflicts", "full")),
            )
        yield rows
        for each in came["rejected"]:
            yield f"not taken, {each['reason']}: {each['entries']}; the last one: {each['example']}"
    if went := lvs["outgoing"]:
        if went["why"]:
            yield f"nothing is sent: {went['why']}"
        yield f"{went['datagrams']} datagrams were sent with {went['entries']} entries; unsent: {went['unsent']}"


def _peers(document: dict[str, Any]) -> Parts:
    yield f"{document['name']} in the fleet '{document['fleet']}'"
    yield ""
    rows = table("PEER NAME TO >SENT >LAG FROM >TAKEN >CONFLICTS >UNKNOWN >FULL")
    for peer in document["peers"]:
        out, came = peer["outgoing"], peer["incoming"]
        rows.add_row(
            peer["address"],
            peer["name"] or "?",
            state(out["state"]),
            str(out["records"]),
            "" if out["lag"] is None else f"{1000 * out['lag']:.0f} ms",
            state(came["state"]),
            str(came["records"]),
            str(peer["conflicts"]),
            str(peer["unknown"]),
            str(peer["full"]),
        )
    yield rows
    if document["waiting"]:
        yield ""
        yield f"Not ready: {document['waiting']}"
    for peer in document["peers"]:
        for way, text in (("outgoing", "nothing is sent there"), ("incoming", "nothing comes from there")):
            if peer[way]["why"]:
                yield f"{peer['address']}: {text}: {peer[way]['why']}"
