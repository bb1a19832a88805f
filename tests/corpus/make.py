#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes captures of the corpus anew: `make.py [NAME...]`, all of them without a name. Needs root and what
`./lab services` installs.

For each scene a lab is built, the scene is played, and what the director receives meanwhile is captured at the
switch's port to it: NAME.pcap. NAME.yaml is the configuration it had. NAME.jsonl is what `xdpdirector replay` makes
of the two, and it is written only if the director in the lab sent every frame to the same backend.
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.utils import rdpcap, wrpcap

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from scenes import SCENES, Scene  # noqa: E402

from xdpdirector.config.config_file import load  # noqa: E402
from xdpdirector.lab import Lab  # noqa: E402
from xdpdirector.lab.services.environment import Stage, configuration  # noqa: E402
from xdpdirector.lab.services.fixtures import Stock  # noqa: E402
from xdpdirector.lab.topology import VIP4, VIP6  # noqa: E402
from xdpdirector.lab.waiting import wait_until  # noqa: E402
from xdpdirector.replay import Replay  # noqa: E402
from xdpdirector.replay.results_log import Recorder  # noqa: E402

NAME = "t_corpus"
LONGEST, BUFFER = 2048, 16384  # octets of a frame, kilobytes of frames that wait for tcpdump
TAGGED = "vlan"  # made of another capture, for not every kernel has interfaces with tags
Went = dict[bytes, list[str]]  # a frame without its MAC addresses, and to which backends the director sent it
LICENCE = "# SPDX-License-Identifier: Apache-2.0\n"


def main(names: list[str]) -> int:
    names = names or [*SCENES, TAGGED]
    done = {}
    for name in names:
        done[name] = capture(SCENES[name]) if name in SCENES else tag("http")
        print(f"{name}: captured")
    with Replay(HERE / f"{names[0]}.yaml") as replay:  # compiled once: all have the same sizes
        for name in names:
            replay.configuration = load(HERE / f"{name}.yaml")
            print(f"{name}: {record(replay, name, done[name])}")
    return 0


def capture(scene: Scene) -> Went:
    """Play it; where the director sent what it received."""
    with Lab(NAME) as lab:
        kinds = scene.kinds(Stock(lab.record.directory / "services"))
        document = configuration(kinds, lab.topology.backend_nodes, scene.scheduler)
        with (HERE / f"{scene.name}.yaml").open("w") as file:
            file.write(LICENCE)
            YAML().dump(document, file)
        stage = Stage(lab, kinds, scene.scheduler)
        sent = lab.record.directory / "sent.pcap"
        with (
            capturing(lab, HERE / f"{scene.name}.pcap", "out", received_from_clients(lab)),
            capturing(lab, sent, "in", forwarded(lab)),
        ):
            scene.play(stage, scene)
        stage.director.stop()
        return went(lab, sent)


def received_from_clients(lab: Lab) -> str:
    return " and ".join(f"not ether src {host.node.mac()}" for host in lab.backends)


def forwarded(lab: Lab) -> str:
    """Not the director's own questions to the VIPs on its backends."""
    own = lab.director_host.node
    return f"(dst host {VIP4} or dst host {VIP6}) and not src host {own.ipv4} and not src host {own.ipv6}"


@contextmanager
def capturing(lab: Lab, path: Path, direction: str, wanted: str) -> Iterator[None]:
    """`out` is what the director receives, `in` what it sends. The port completes checksums before frames are
    captured there (ethtool, tx off)."""
    port, role = lab.director_host.node.port(), f"tcpdump-{direction}"
    log, fresh = lab.switch.log(role), lab.record.directory / f"{direction}.new"
    command = [
        "tcpdump",
        "-i",
        port,
        "-Q",
        direction,
        "-s",
        str(LONGEST),
        "-B",
        str(BUFFER),
        "-U",
        "-Z",
        "root",
    ]
    tcpdump = lab.switch.popen(*command, "--immediate-mode", "-w", str(fresh), wanted, role=role)
    wait_until(lambda: "listening on" in log.read_text(), "tcpdump listens")
    yield
    wait_until(lambda: unchanged(fresh), "all is captured", interval=0.5)
    tcpdump.send_signal(signal.SIGTERM)
    tcpdump.wait(timeout=5)
    if "\n0 packets dropped by kernel" not in log.read_text():
        raise SystemExit(f"tcpdump lost packets: {log.read_text()}")
    shutil.move(fresh, path)


_sizes: dict[Path, int] = {}


def unchanged(path: Path) -> bool:
    """Whether a file is as it was when this was asked before."""
    before = _sizes.get(path)
    _sizes[path] = path.stat().st_size
    return before == _sizes[path]


def went(lab: Lab, sent: Path) -> Went:
    names = {host.node.mac(): host.name for host in lab.backends}
    found = defaultdict(list)
    for packet in rdpcap(str(sent)):
        if packet.dst in names:
            found[bytes(packet)[12:]].append(names[packet.dst])
    return found


def record(replay: Replay, name: str, done: Went | None) -> str:
    """Replay, compare with what was done, write down; how many packets had which reason."""
    path = HERE / f"{name}.pcap"
    results = replay.run(path)
    for frame, packet in zip(rdpcap(str(path)), results.packets, strict=True):
        backends = done[bytes(frame)[12:]] if done is not None else [packet.decision.backend]
        backend = backends.pop(0) if backends else ""
        if backend != packet.decision.backend:
            raise SystemExit(f"{name}: the director in the lab sent this to {backend or 'nobody'}: {packet}")
    with (HERE / f"{name}.jsonl").open("w") as file:
        Recorder(file).add(results.packets)
    return f"{len(results.packets)} packets, {dict(results.summary.reasons)}"


def tag(name: str) -> None:
    """Every other flow in a VLAN, the others in a VLAN of a provider's."""
    frames = []
    for packet in rdpcap(str(HERE / f"{name}.pcap")):
        ether, inside = Ether(src=packet.src, dst=packet.dst), packet.payload
        own, provider = Dot1Q(vlan=7), Dot1AD(vlan=9)
        tagged = ether / (provider / own if getattr(inside.payload, "sport", 0) % 2 else own) / inside
        tagged.time = packet.time
        frames.append(tagged)
    wrpcap(str(HERE / f"{TAGGED}.pcap"), frames)
    shutil.copy(HERE / f"{name}.yaml", HERE / f"{TAGGED}.yaml")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
