# SPDX-License-Identifier: Apache-2.0
"""The daemon: whether it runs and answers, what it says is wrong, how full its maps are, what drifted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xdpdirector.doctor.finding import Finding, error, note, ok, warning
from xdpdirector.doctor.subject import Subject
from xdpdirector.doctor.systemd import unit_of
from xdpdirector.model import Sizes

NEARLY_FULL, MUCH_TOO_LARGE = 0.8, 0.01
OF_FLEET = ("connections are sent to", "connections are not sent to", "no connections come from")
"""How warnings begin of which the family `fleet` says more."""
_FOLLOWS = {"vips": "listeners"}
"""Maps whose room follows from that of another one in `sizes`."""
LEAVES = "this director leaves for maintenance"
"""How the problem begins of which that family says more."""
LARGE = 1 << 20  # entries from which a table that is hardly used is worth a word


def look(subject: Subject) -> Iterator[Finding]:
    yield from _answers(subject)
    if subject.documents:
        told = [each["text"] for each in subject.documents["lan"]["findings"]]
        yield from _ready(subject.documents["ready"], told)
        yield from _maps(subject.documents["statistics"])
        yield _drift(subject.documents["statistics"])
        yield from _directed(subject.documents["statistics"])
        yield from _own_connections(subject.documents["lan"])


def pid_of(subject: Subject) -> int | None:
    """The daemon's process; None when there is none."""
    try:
        pid = int(subject.machine.foreign_text(subject.paths.lock))
    except (OSError, ValueError):
        return None
    return pid if subject.machine.exists(Path(f"/proc/{pid}")) else None


def _answers(subject: Subject) -> Iterator[Finding]:
    name, pid = subject.paths.name, pid_of(subject)
    if subject.documents:
        yield ok(f"the daemon of instance '{name}' answers", f"GET /readyz on {subject.paths.socket}")
    elif pid:
        yield error(
            f"the daemon of instance '{name}' runs but does not answer",
            f"process {pid} has {subject.paths.lock}; {subject.daemon_error}",
            f"look into its log (journalctl -u {unit_of(name)}), then restart it: packets go on meanwhile",
        )
    else:
        yield warning(
            f"no daemon of instance '{name}' runs: no check withdraws a dead backend",
            subject.daemon_error,
            f"systemctl start {unit_of(name)}, or xdpdirector -i {name} run",
        )


def _ready(ready: dict[str, Any], told: Sequence[str]) -> Iterator[Finding]:
    """`told`: what other families say of."""
    if ready["ready"]:
        yield ok(f"it is ready (revision {ready['revision']})", "GET /readyz")
    for problem in ready["problems"]:
        if problem.startswith(LEAVES):
            continue
        yield error(problem, "GET /readyz, problems", "as it says; the other findings may tell more")
    for text in ready["warnings"]:
        if text not in told and not text.startswith(OF_FLEET):
            yield warning(text, "GET /readyz, warnings", "as it says")


def _maps(statistics: dict[str, Any]) -> Iterator[Finding]:
    fills = statistics["maps"]
    full = {name: fill for name, fill in fills.items() if fill["entries"] > NEARLY_FULL * fill["room"]}
    for name, fill in full.items():
        yield warning(
            f"the map '{name}' is {fill['entries'] / fill['room']:.0%} full",
            f"GET /v1/stats, maps: {fill['entries']:,} of {fill['room']:,}",
            _remedy(name),
        )
    if not full:
        used = ", ".join(f"{name} {fill['entries'] / fill['room']:.0%}" for name, fill in fills.items())
        yield ok("no map is nearly full", f"GET /v1/stats, maps: {used}")
    table = fills.get("connections")
    if table and table["room"] >= LARGE and 0 < table["entries"] < MUCH_TOO_LARGE * table["room"]:
        yield note(
            f"the connection table has room for {table['room']:,} and holds {table['entries']:,}: a smaller one "
            "stays in the processor's cache, and look-ups are up to three times as fast",
            "GET /v1/stats, maps",
            f"sizes: {{connections: {_enough(table['entries'])}}}, if this is the usual load",
        )


def _remedy(name: str) -> str:
    size = _FOLLOWS.get(name, name)
    if size not in Sizes.model_fields:
        return "its size is fixed: use fewer, or divide the services among several directors"
    return f"raise sizes.{size} in the configuration, and restart the daemon"


def _enough(entries: int) -> int:
    """Room for eight times as many, a power of two."""
    return max(1024, 1 << (8 * entries - 1).bit_length())


def _drift(statistics: dict[str, Any]) -> Finding:
    count = statistics["drift_repaired"]
    if count:
        return warning(
            f"{count:,} places of the maps were found different from what is wanted, and repaired",
            "GET /v1/stats, drift_repaired, since the daemon started",
            "look who else writes to the maps (bpftool?), and in the daemon's log when",
        )
    return ok("the maps are as they should be", "GET /v1/stats, drift_repaired is 0")


def _directed(statistics: dict[str, Any]) -> Iterator[Finding]:
    count = statistics["verdicts"].get("pass_directed", 0)
    if count:
        yield note(
            f"{count:,} frames came from backends that direct or route, and were left to this host",
            "GET /v1/stats, verdicts: pass_directed",
            "nothing, where directors are each other's backends; if clients' packets come in through a backend, "
            "say `router: true` of it",
        )


def _own_connections(lan: dict[str, Any]) -> Iterator[Finding]:
    """XDP sees what comes in from the wire."""
    if lan["vips"]:
        yield ok(
            "the VIPs stand on this host, which answers its own connections to them itself: the director sees what "
            "comes in from the network. Connect from here to a backend's own address",
            f"GET /v1/lan, vips: {', '.join(sorted(lan['vips']))}",
        )
