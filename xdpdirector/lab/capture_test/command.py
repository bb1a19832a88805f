# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector lab replay`: a lab whose director has the given configuration, a capture played through it, and what
the packet program in a replay says that each backend should get."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xdpdirector.config import config_file
from xdpdirector.errors import InvalidRequestError, TimedOutError
from xdpdirector.lab.capture_test.outcome import Delivery, Outcome, Received, judge
from xdpdirector.lab.capture_test.schedule import Bounds, Score, compose
from xdpdirector.lab.capture_test.sender import written
from xdpdirector.lab.capture_test.tcpdump import Tcpdump
from xdpdirector.lab.configuration import backend_address, web_configuration
from xdpdirector.lab.host import enter
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.topology import FIRST_ARM, MAX_BACKENDS, Node, Topology
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address, Configuration
from xdpdirector.replay.assumptions import Premises
from xdpdirector.replay.capture import Capture
from xdpdirector.replay.dry_run import rehearse
from xdpdirector.replay.packet import Packet
from xdpdirector.replay.results_log import read

PATIENCE = 10.0  # seconds for the last frames
SETTLING = 0.5  # seconds in which nothing more may come


@dataclass(frozen=True)
class Options:
    """`configuration`: its file, or None for a web service on two backends; `expected`: a recording."""

    capture: Path
    configuration: Path | None = None
    expected: Path | None = None
    bounds: Bounds = field(default_factory=Bounds)
    name: str = "replay"
    numbered: bool = False  # the name gets a number if another lab has it


def run_replay(options: Options, say: Callable[[str], None]) -> Outcome:
    """Build the lab, play, compare, take down. InvalidRequestError when the backends are no lab's."""
    with Capture(options.capture):  # before anything is built
        wanted = _configuration(options)
    topology = Topology(options.name, _backends(wanted))
    nodes = _nodes(topology)
    client, director = (
        bytes.fromhex(node.mac().replace(":", "")) for node in (topology.client, topology.director)
    )
    with Capture(options.capture) as capture:
        score = compose(capture.batches(), options.bounds, source=client, destination=director)
    outcome = Outcome(len(score.played), score.left_out, score.is_cut)
    say(f"asking the packet program about {len(score.played):,} frames")
    premises = Premises(
        macs={address: bytes.fromhex(node.mac().replace(":", "")) for address, node in nodes.items()},
        director=director,
        own=(director,),
    )
    expected = _rehearsed(wanted, premises, score, options, outcome)
    with Lab(options.name, backends=topology.backends, numbered=options.numbered) as lab:
        say(f"a lab with {topology.backends} backends, and a director")
        outcome.backends, outcome.lost = _play(lab, wanted, score, expected, say)
    return outcome


def _configuration(options: Options) -> Configuration:
    if options.configuration:
        return config_file.load(options.configuration)
    return Configuration.model_validate(web_configuration(Topology(options.name, 2).backend_nodes))


def _nodes(topology: Topology) -> dict[Address, Node]:
    return {node.ipv4: node for node in topology.backend_nodes} | {
        node.ipv6: node for node in topology.backend_nodes
    }


def _backends(wanted: Configuration) -> int:
    """How many the lab needs."""
    known = {address: number for number, address in _numbered()}
    most = 1
    for name, service in wanted.services.items():
        for key, backend in service.backends.items():
            if backend.address not in known:
                raise InvalidRequestError(
                    f"backend '{name}/{key}' has the address {backend.address}, which no lab's backend has: the "
                    f"first is {backend_address(Topology('any', 1).backend_nodes[0])}"
                )
            most = max(most, known[backend.address])
    return most


def _numbered() -> Iterator[tuple[int, Address]]:
    for number, node in enumerate(Topology("any", MAX_BACKENDS).backend_nodes, start=1):
        yield number, node.ipv4
        yield number, node.ipv6


def _rehearsed(
    wanted: Configuration, premises: Premises, score: Score, options: Options, outcome: Outcome
) -> dict[str, list[Delivery]]:
    """What each host of the lab should get; with what was recorded compared on the way."""
    recorded: dict[int, Packet] = {}
    if options.expected:
        with options.expected.open() as file:
            recorded = {packet.number: packet for packet in read(file, str(options.expected))}
    deliveries: dict[str, list[Delivery]] = {}
    by_mac = {mac: address for address, mac in premises.macs.items()}
    nodes = {address: node.name for address, node in _nodes(Topology("any", _backends(wanted))).items()}
    frames, dues = [each.frame for each in score.played], [each.due for each in score.played]
    for played, (decision, left) in zip(score.played, rehearse(wanted, premises, frames, dues), strict=True):
        if decision.verdict == "forward":
            host = nodes[by_mac[left[:6]]]
            deliveries.setdefault(host, []).append(Delivery(played.number, left))
        before = recorded.get(played.number)
        if options.expected and (before is None or before.decision != decision):
            was = before.decision if before else "nothing"
            outcome.decided.append(f"packet {played.number}: {was} was recorded; it is {decision}")
    return deliveries


def _document(wanted: Configuration) -> Mapping[str, Any]:
    """For the lab's director: without checks, as no server runs there."""
    document = wanted.model_dump(mode="json", exclude_none=True, exclude={"api", "user", "checks", "lan"})
    document["interfaces"] = [FIRST_ARM.interface]
    for service in document["services"].values():
        service.pop("check", None)
    return document


def _play(
    lab: Lab,
    wanted: Configuration,
    score: Score,
    expected: Mapping[str, list[Delivery]],
    say: Callable[[str], None],
) -> tuple[list[Received], int]:
    """What each backend received, and how many frames it is not known of."""
    node = lab.topology.director
    own = frozenset(
        {node.ipv4.packed, node.ipv6.packed}
        | {listener.address.packed for each in wanted.services.values() for listener in each.listeners}
    )
    mac = bytes.fromhex(node.mac().replace(":", ""))
    for host in lab.backends:  # they listen, and say nothing: an answer would make the client answer
        host.run("ip", "address", "flush", "dev", "lo")
    director = lab.director(_document(wanted))
    director.wait_serving()
    with ExitStack() as stack:
        captures = {
            host.name: stack.enter_context(Tcpdump(host, FIRST_ARM.interface, mac, own))
            for host in lab.backends
        }
        say(f"playing {len(score.played):,} frames")
        _send(lab, score)
        _wait(captures, expected)
    director.stop()
    received = [judge(name, expected.get(name, []), capture.received()) for name, capture in captures.items()]
    return received, sum(capture.lost() for capture in captures.values())


def _send(lab: Lab, score: Score) -> None:
    seconds = score.played[-1].due / 1e9 if score.played else 0.0
    command = [sys.executable, "-m", "xdpdirector.lab.capture_test.sender", FIRST_ARM.interface]
    subprocess.run(
        enter(lab.topology.client, *command),
        input=written(score.played),
        timeout=seconds * 5 + 60,
        check=True,
    )


def _wait(captures: Mapping[str, Tcpdump], expected: Mapping[str, list[Delivery]]) -> None:
    """Until all came, and then a little for what should not come."""

    def all_came() -> bool:
        return all(
            len(capture.received()) >= len(expected.get(name, [])) for name, capture in captures.items()
        )

    try:
        wait_until(all_came, "every frame came", PATIENCE, interval=0.2)
    except TimedOutError:
        return  # the comparison says which
    time.sleep(SETTLING)
