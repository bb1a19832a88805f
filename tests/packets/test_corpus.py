# SPDX-License-Identifier: Apache-2.0
"""The corpus, captures of real clients and servers, is replayed: every packet goes where it did in the lab."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6ExtHdrFragment
from scapy.utils import rdpcap

from xdpdirector.config.config_file import load
from xdpdirector.replay import Replay
from xdpdirector.replay.results_log import Comparison, read

CORPUS = Path(__file__).parents[1] / "corpus"
NAMES = sorted(path.stem for path in CORPUS.glob("*.pcap"))
LARGEST = 100_000  # octets
WANTED = {
    *(
        "http",
        "https",
        "http2",
        "smtp",
        "pop3",
        "imap",
        "ftp-passive",
        "ftp-active",
        "ldap",
        "postgres",
        "mariadb",
    ),
    *("dns", "ssh", "fragmented-udp", "path-mtu", "syn-flood", "port-scan", "vlan", "ipv6-extension-headers"),
}
# Reasons that make a capture what it is.
TELLING = {
    "http2": {"forward_ring"},
    "fragmented-udp": {"forward_fragment"},
    "path-mtu": {"forward_error"},
    "port-scan": {"pass_no_listener"},
}

CAPTURES = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    """Compiled once: all have the same sizes."""
    with Replay(CORPUS / f"{NAMES[0]}.yaml") as replay:
        yield replay


def test_the_corpus_is_whole() -> None:
    assert set(NAMES) == WANTED


@CAPTURES
def test_every_packet_goes_where_it_went(replay: Replay, name: str) -> None:
    replay.configuration = load(CORPUS / f"{name}.yaml")
    recording = CORPUS / f"{name}.jsonl"

    packets = replay.run(CORPUS / f"{name}.pcap").packets

    with recording.open() as file:
        comparison = Comparison(read(file, recording.name))
        comparison.add(packets)
        comparison.finish()
    assert [str(difference) for difference in comparison.first] == []
    assert len({packet.decision.backend for packet in packets} - {""}) > 1
    assert TELLING.get(name, set()) <= {packet.decision.reason for packet in packets}


@CAPTURES
def test_captures_are_small(name: str) -> None:
    assert (CORPUS / f"{name}.pcap").stat().st_size <= LARGEST


@CAPTURES
def test_checksums_are_complete(name: str) -> None:
    """A sender that leaves them to its card leaves half of them in a capture."""
    wrong = []
    for number, packet in enumerate(rdpcap(str(CORPUS / f"{name}.pcap")), start=1):
        fragmented = IPv6ExtHdrFragment in packet or (
            IP in packet and (packet[IP].frag > 0 or bool(packet[IP].flags.MF))
        )
        for layer in (IP, TCP, UDP):
            if layer in packet and not (fragmented and layer is not IP):
                given = packet[layer].chksum
                del packet[layer].chksum
                if type(packet)(bytes(packet))[layer].chksum != given:
                    wrong.append((number, layer.__name__))
    assert wrong == []
