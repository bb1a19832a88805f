# SPDX-License-Identifier: Apache-2.0
"""Shows the API's documents as text. Sends no requests and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xdpdirector.cli import guard
from xdpdirector.cli.render import Parts, endpoint, facts, moment, number, plural, size, state, table
from xdpdirector.cli.tables import Lines

Document = dict[str, Any]


def status(instance: str, report: Document) -> Parts:
    """Everything that matters at a glance, in one table."""
    readiness, statistics = report["readiness"], report["statistics"]
    ready = "ready" if readiness["ready"] else "NOT ready"
    yield f"Director '{instance}' is {ready} (revision {readiness['revision']})."
    yield from (f"  - {problem}" for problem in readiness["problems"])
    yield from (f"  ! {warning}" for warning in readiness["warnings"])
    if readiness["problems"] or readiness["warnings"]:
        yield "`xdpdirector doctor` has the evidence and the remedies."
    places = [f"{each['interface']} ({each['mode']})" for each in statistics["attachments"]]
    yield f"Attached to {', '.join(places) or 'no interface'}; {plural(statistics['connections'], 'connection')}."
    yield ""
    rows = table("SERVICE BACKEND ADDRESS >WEIGHT ADMIN STATE >ACTIVE >INACTIVE >PACKETS REASON")
    for one in report["services"]:
        listeners = Lines("\n".join(one["listeners"]))
        packets = number(one["traffic"]["packets"])
        rows.add_row(
            one["name"],
            f"({one['scheduler']})",
            listeners,
            "",
            "",
            state(one["operational"]),
            "",
            "",
            packets,
        )
        for each in one["backends"]:
            rows.add_row(
                "",
                each["name"],
                _where(each),
                *_condition(each),
                number(each["traffic"]["packets"]),
                _why(each),
            )
    yield rows if report["services"] else "There are no services: `xdpdirector service add` makes one."


def services(items: Sequence[Document]) -> Parts:
    labelled = any(one["labels"] for one in items)
    rows = table(
        f"SERVICE LISTENERS SCHEDULER CHECK STATE >SERVING >CONNECTIONS >PACKETS >BYTES{' LABELS' * labelled}"
    )
    for one in items:
        serving = sum(each["serving"] for each in one["backends"])
        rows.add_row(
            one["name"],
            ", ".join(one["listeners"]),
            one["scheduler"],
            _check(one["check"]),
            state(one["operational"]),
            f"{serving}/{len(one['backends'])}",
            *_traffic(one["traffic"]),
            *([_labels(one)] if labelled else ()),
        )
    yield rows


def service(one: Document) -> Parts:
    yield facts(
        ("service", one["name"]),
        ("state", state(one["operational"])),
        *(("listener", listener) for listener in one["listeners"]),
        *(
            (f"at {vip['vip']}", state(vip["operational"], f"{vip['operational']}, {vip['serving']} serving"))
            for vip in (
                one["vips"] if any(each["operational"] == "partial" for each in one["backends"]) else ()
            )
        ),
        *([("labels", _labels(one))] if one["labels"] else ()),
        ("scheduler", one["scheduler"]),
        *([("forward", one["forward"])] if one.get("forward", "direct") != "direct" else ()),
        ("check", _check(one["check"])),
        ("slow start", one["slow_start"] or "none"),
        *([("passive", _judged(one["passive"]))] if one.get("passive") else ()),
        ("limit", guard.said(one["limit"])),
        *_limited(one["limit"], one["refused"]),
        *_cids(one),
        *_dropped(one["dropped"]),
        ("timeouts", ", ".join(f"{name} {time}" for name, time in one["timeouts"].items())),
        ("on empty", one["on_empty"]),
        ("on down", one["on_down"]),
        ("on unknown", one["on_unknown"]),
    )
    yield ""
    yield from backends(one["backends"]) if one["backends"] else ("It has no backends.",)


def _at(vip: Document) -> str:
    return f"{vip['operational']}: {vip['reason']}" if vip["reason"] else str(vip["operational"])


def _limited(limit: Document | None, refused: Document) -> list[tuple[str, str]]:
    if limit is None:
        return []
    by_service, by_source = number(refused["by_service"]), number(refused["by_source"])
    return [
        ("per source", guard.source(limit.get("per_source"))),
        ("refused", f"{by_service} over the limit, {by_source} over their source's"),
    ]


def _cids(one: Document) -> list[tuple[str, str]]:
    """Nothing without `quic`."""
    quic = one.get("quic")
    if not quic:
        return []
    said = ", ".join(
        f"{name} {value}" for name, value in quic.items() if name != "cids" and value is not None
    )
    counted = ", ".join(f"{number(count)} {what}" for what, count in one["cid_packets"].items())
    return [("QUIC IDs", f"{quic['cids']}, {said}"), ("by QUIC ID", counted)]


def _judged(spec: Document) -> str:
    if not spec["eject"]:
        return "suspects are shown"
    left = f"suspects keep {spec['weight']:.0%} of their weight" if spec["weight"] else "suspects are ejected"
    return f"{left}, for {spec['trial_after']}, {spec['at_most']:.0%} of the backends at most"


def _dropped(by_reason: Mapping[str, int]) -> list[tuple[str, str]]:
    told = ", ".join(f"{number(count)} {reason}" for reason, count in by_reason.items())
    return [("dropped", told)] if told else []


def backends(items: Sequence[Document]) -> Parts:
    labelled = any(each["labels"] for each in items)
    rows = table(
        "BACKEND ADDRESS >WEIGHT ADMIN STATE >ACTIVE >INACTIVE SERVING >CONNECTIONS >PACKETS >BYTES"
        f"{' LABELS' * labelled} REASON"
    )
    for each in items:
        rows.add_row(
            f"{each['service']}/{each['name']}",
            _where(each),
            *_condition(each),
            state("yes" if each["serving"] else "no"),
            *_traffic(each["traffic"]),
            *([_labels(each)] if labelled else ()),
            _why(each),
        )
    yield rows


def backend(each: Document) -> Parts:
    counts, traffic = each["connections"], each["traffic"]
    yield facts(
        ("backend", f"{each['service']}/{each['name']}"),
        ("address", each["address"]),
        *([("labels", _labels(each))] if each["labels"] else ()),
        *([("QUIC ID", each["quic_id"])] if each.get("quic_id") else ()),
        *_tunnel(each),
        ("MAC address", each["mac"] or "not known"),
        ("interface", each["interface"] or "not known"),
        ("weight", _weight(each)),
        ("admin", state(each["admin"])),
        ("state", state(each["operational"])),
        ("since", moment(each["since"])),
        ("reason", _why(each)),
        ("serving", state("yes" if each["serving"] else "no")),
        *(
            (f"at {vip['vip']}", state(vip["operational"], _at(vip)))
            for vip in (each["vips"] if each["operational"] == "partial" else ())
        ),
        (
            "connections",
            ", ".join(f"{number(counts[kind])} {kind}" for kind in ("active", "inactive", "pending")),
        ),
        *_progress(each["drain"]),
        ("opened", number(traffic["connections"])),
        ("packets", number(traffic["packets"])),
        ("bytes", f"{number(traffic['bytes'])} ({size(traffic['bytes'])})"),
        *_passive(each.get("passive")),
    )


def _passive(passive: Document | None) -> list[tuple[str, str]]:
    """What its clients' packets show; nothing unless its service has it counted."""
    if not passive:
        return []
    now = "no connections lately"
    if passive["share"] is not None:
        now = f"{passive['share']:.1%} of {number(passive['connections'])} SYNs sent again lately"
        now += "" if passive["siblings"] is None else f", {passive['siblings']:.1%} of its siblings'"
    again = f"{number(passive['retransmitted'])} sent again, {number(passive['retransmissions'])} times"
    rows = [
        ("passive", state(passive["state"], f"{passive['state']}: {now}")),
        ("SYNs", f"{number(passive['syns'])}, of which {again}"),
    ]
    if passive["handshakes"] is None:
        return rows
    kinds = {
        "resets": "reset by clients",
        "unanswered": "never answered",
        "idle": "silent until their time-out",
    }
    ends = ", ".join(f"{number(passive[kind])} {words}" for kind, words in kinds.items())
    return [
        *rows,
        ("handshakes", number(passive["handshakes"])),
        ("SYN to ACK", _times(passive["times"])),
        ("ends", ends),
    ]


def _times(times: Sequence[Document]) -> str:
    total, seen, words = sum(each["count"] for each in times), 0, []
    parts = {"half": 0.5, "99 %": 0.99}
    for each in times:
        seen += each["count"]
        for name in [name for name, part in parts.items() if total and seen >= part * total]:
            del parts[name]
            words.append(f"{name} {_within(each['at_most'])}")
    return ", ".join(words) or "none yet"


def _within(seconds: float | None) -> str:
    if seconds is None:
        return "longer"
    return f"within {seconds:.2g} s" if seconds >= 1 else f"within {seconds * 1000:.2g} ms"


def _tunnel(each: Document) -> list[tuple[str, str]]:
    """Of a backend in another network."""
    if each.get("effective_forward", "direct") == "direct":
        return []
    tunnel = each["tunnel"]
    if tunnel is None:
        return [("forward", f"{each['effective_forward']}, by no known route")]
    gateway = f" by {tunnel['gateway']}" if tunnel["gateway"] else ""
    return [
        ("forward", f"{each['effective_forward']} from {tunnel['source']}{gateway}"),
        ("longest packet", f"{tunnel['longest']} bytes (MTU {tunnel['mtu']})"),
    ]


def connections(items: Sequence[Document]) -> Parts:
    rows = table("CLIENT VIP PROTOCOL BACKEND STATE >IDLE")
    for each in items:
        rows.add_row(
            endpoint(each["client"], each["client_port"]),
            endpoint(each["vip"], each["port"]),
            each["protocol"],
            f"{each['service']}/{each['backend'] or '-'}",
            each["state"],
            f"{each['idle']:.0f}s",
        )
    yield rows


def statistics(document: Document) -> Parts:
    verdicts = table("VERDICT >PACKETS")
    for reason, count in document["verdicts"].items():
        if count:
            verdicts.add_row(reason, number(count))
    traffic = table("TRAFFIC >CONNECTIONS >PACKETS >BYTES")
    for name, total in document["services"].items():
        traffic.add_row(name, *_traffic(total))
        for one, count in document["backends"].get(name, {}).items():
            traffic.add_row(f"  {name}/{one}", *_traffic(count))
    yield verdicts
    yield ""
    yield traffic
    yield ""
    for each in document["attachments"]:
        lost = each["transmit_errors"]
        words = f"; {number(lost)} frames could not be transmitted" if lost else ""
        yield f"Program {each['program_id']} is attached to {each['interface']} ({each['mode']}){words}."
    yield f"{plural(document['connections'], 'connection')} stored; drift repaired: {document['drift_repaired']}."


def _labels(one: Document) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(one["labels"].items()))


def _weight(each: Document) -> str:
    """With the part of it that counts now, when that is another one."""
    now = each["effective_weight"]
    return str(each["weight"]) if now == each["weight"] else f"{now:g} of {each['weight']}"


def remaining(each: Document) -> str:
    """How many connections a draining backend still has, in words."""
    return plural((each["drain"] or {}).get("remaining", each["connections"]["active"]), "connection")


def _condition(each: Document) -> tuple[str, ...]:
    counts = each["connections"]
    return (
        _weight(each),
        state(each["admin"]),
        state(each["operational"]),
        number(counts["active"]),
        number(counts["inactive"]),
    )


def _where(each: Document) -> str:
    """A backend's address, and the tunnel to it if there is one."""
    forward = each.get("effective_forward", "direct")
    return str(each["address"]) if forward == "direct" else f"{each['address']} by {forward}"


def _why(each: Document) -> str:
    progress = each["drain"]
    if not progress:
        return str(each["reason"])
    words = f"{remaining(each)} left of {number(progress['connections_at_start'])}"
    words += "" if progress["settled"] else " (and some unseen, perhaps)"
    if progress["deadline"]:
        words += f", {progress['on_deadline']} them at {moment(progress['deadline'])}"
    elif progress["estimated_end"] and progress["remaining"]:
        words += f", the last one until about {moment(progress['estimated_end'])}"
    return f"{words}: {progress['reason']}" if progress["reason"] else words


def _progress(drain: Document | None) -> list[tuple[str, str]]:
    if drain is None:
        return []
    rate, age = drain["packets_per_second"], drain["oldest_at_least"]
    facts = [("draining since", moment(drain["since"]))]
    facts += [] if rate is None else [("packets a second", f"{rate:g}")]
    return facts + ([] if age is None else [("oldest connection", f"{age:.0f} s at least")])


def _check(check: Document | None) -> str:
    if check is None:
        return "none"
    path = f":{check['path']}" if "path" in check else ""
    asked = ", of the backends' own addresses" if check["via"] == "address" else ""
    return f"{check['type']}{path} every {check['interval']}{asked}"


def _traffic(total: Document) -> tuple[str, str, str]:
    return number(total["connections"]), number(total["packets"]), size(total["bytes"])
