# SPDX-License-Identifier: Apache-2.0
"""The options of a service on the command line, and the merge patch made of them. Values are not validated here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from xdpdirector.cli import label_options
from xdpdirector.cli.check_options import check_patch

NONE = "none"


def _option(text: str) -> Any:
    return typer.Option(help=text, show_default=False)


Listen = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ADDRESS:PORT/PROTOCOL",
        show_default=False,
        help="A listener, like 192.0.2.10:80/tcp or [2001:db8::10]:53/udp; may be repeated.",
    ),
]
Scheduler = Annotated[
    str | None,
    _option(
        "wlc (least busy), mh (Maglev hashing), rr, wrr, lc, sed, nq, sh, fo, ovf, dh, lblc, lblcr, twos."
    ),
]
Hash = Annotated[str | None, _option("For mh and sh: by flow or by address.")]
Persistence = Annotated[str | None, _option("How long a client keeps its backend, like 300s, or none.")]
Fallback = Annotated[str | None, _option("The backend that serves only when no other does, or none.")]
Check = Annotated[str | None, _option("tcp, http:/path, https:/path, dns:name, ... or none.")]
CheckOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        show_default=False,
        help="Another option of the check, like via=address, verify=true or status=[200,204]; may be repeated.",
    ),
]
SlowStart = Annotated[
    str | None, _option("How long a backend that returns takes to get its whole weight back, or none.")
]
Passive = Annotated[
    str | None,
    _option("Watch backends by their clients' packets: show, eject (suspects lose their weight), or none."),
]
Interval = Annotated[str | None, _option("Time between checks, like 2s.")]
Timeout = Annotated[str | None, _option("Time for one check, like 500ms.")]
Rise = Annotated[int | None, _option("Good checks in a row until up.")]
Fall = Annotated[int | None, _option("Bad checks in a row until down.")]
Limit = Annotated[str | None, _option("New connections, like 1000/s, 10/m, or none for no limit at all.")]
Burst = Annotated[int | None, _option("So many of them at once.")]
SourceLimit = Annotated[str | None, _option("The same for each source, like 10/s, or none.")]
SourceBurst = Annotated[int | None, _option("So many of a source at once.")]
SourcePrefix = Annotated[int | None, _option("Bits of an IPv4 address that make a source (32).")]
SourcePrefix6 = Annotated[int | None, _option("The same of an IPv6 address (64).")]
Quic = Annotated[
    str | None, _option("How QUIC connection IDs name backends: quic-lb, offset, or none for not at all.")
]
QuicLength = Annotated[int | None, _option("Octets of a backend's ID in them (4).")]
QuicOffset = Annotated[int | None, _option("Where it begins, with offset.")]
QuicConfigId = Annotated[int | None, _option("The configuration's codepoint, with quic-lb.")]
Forward = Annotated[
    str | None, _option("How packets reach backends: direct (by MAC), ipip or gue (to other networks).")
]
GuePort = Annotated[int | None, _option("UDP port that backends receive GUE on (6080).")]
OnEmpty = Annotated[str | None, _option("Without a usable backend: reject or drop.")]
OnDown = Annotated[str | None, _option("A connection's backend is down: reject, drop or schedule.")]
OnUnknown = Annotated[str | None, _option("TCP of no connection: reject, drop or schedule.")]


def patch(
    listen: Listen = None,
    scheduler: Scheduler = None,
    hash: Hash = None,  # noqa: A002 the option's name
    persistence: Persistence = None,
    fallback: Fallback = None,
    check: Check = None,
    check_option: CheckOption = None,
    interval: Interval = None,
    timeout: Timeout = None,
    rise: Rise = None,
    fall: Fall = None,
    slow_start: SlowStart = None,
    passive: Passive = None,
    limit: Limit = None,
    burst: Burst = None,
    source_limit: SourceLimit = None,
    source_burst: SourceBurst = None,
    source_prefix: SourcePrefix = None,
    source_prefix6: SourcePrefix6 = None,
    quic: Quic = None,
    quic_length: QuicLength = None,
    quic_offset: QuicOffset = None,
    quic_config_id: QuicConfigId = None,
    forward: Forward = None,
    gue_port: GuePort = None,
    on_empty: OnEmpty = None,
    on_down: OnDown = None,
    on_unknown: OnUnknown = None,
    label: label_options.Label = None,
) -> dict[str, Any]:
    """The merge patch (RFC 7396): options that are not given are not in it, and `none` is null."""
    of_check = check_patch(check, check_option, interval=interval, timeout=timeout, rise=rise, fall=fall)
    of_limit = _limit(
        limit,
        burst,
        source_limit,
        burst_of_source=source_burst,
        prefix=source_prefix,
        prefix6=source_prefix6,
    )
    of_quic = _given(cids=quic, length=quic_length, offset=quic_offset, config_id=quic_config_id)
    fields = _given(
        listeners=listen or None,
        scheduler=scheduler,
        hash=hash,
        persistence={"timeout": persistence} if persistence else None,
        fallback=fallback,
        check=of_check,
        slow_start=slow_start,
        passive=_passive(passive),
        limit=of_limit,
        quic=of_quic or None,
        forward=forward,
        tunnel={"port": gue_port} if gue_port is not None else None,
        on_empty=on_empty,
        on_down=on_down,
        on_unknown=on_unknown,
        **label_options.patch(label),
    )
    said = {
        "check": check,
        "slow_start": slow_start,
        "passive": passive,
        "persistence": persistence,
        "fallback": fallback,
        "limit": limit,
        "quic": quic,
    }
    return fields | {name: None for name, value in said.items() if value == NONE}


def without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    """A patch as a whole document: there is nothing yet that a null could remove."""
    return {
        name: without_nulls(value) if isinstance(value, dict) else value
        for name, value in document.items()
        if value is not None
    }


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _passive(said: str | None) -> dict[str, Any] | None:
    if said not in (None, NONE, "show", "eject"):
        raise typer.BadParameter(f"--passive is show, eject or none, not {said}")
    return {"eject": said == "eject"} if said and said != NONE else None


def _limit(
    rate: str | None,
    burst: int | None,
    source: str | None,
    *,
    burst_of_source: int | None,
    **prefixes: int | None,
) -> dict[str, Any] | None:
    """The merge patch of a limit, None for no change."""
    of_source = _given(rate=source, burst=burst_of_source, **prefixes)
    fields = _given(rate=rate, burst=burst, per_source=of_source or None)
    if rate == "none":
        if len(fields) > 1:
            raise typer.BadParameter("--limit none is no limit at all, also of sources: leave the others out")
        return None
    if source == "none":
        if len(of_source) > 1:
            raise typer.BadParameter("--source-limit none has no burst and no prefix")
        fields["per_source"] = None
    return fields or None
