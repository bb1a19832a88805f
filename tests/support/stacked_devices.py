# SPDX-License-Identifier: Apache-2.0
"""A bridge or macvlan over the network card of a lab's host, which then has its addresses."""

from __future__ import annotations

from xdpdirector.lab.host import Host

CARD = "eth0"
BRIDGE = (
    "link add bridge0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
    f"link set {CARD} master bridge0",
)
MACVLAN = (f"link add macvlan0 link {CARD} type macvlan mode bridge",)


def stack(host: Host, name: str, lines: tuple[str, ...]) -> None:
    """`lines`: for `ip -batch`, what makes the device of that name over the card."""
    arm = host.arm(CARD)
    batch = (
        f"address flush dev {CARD}",
        *lines,
        f"address add {host.node.interface4(arm)} dev {name}",
        f"address add {host.node.interface6(arm)} dev {name} nodad",
        f"link set {name} up",
    )
    host.run("ip", "-batch", "-", text="".join(f"{line}\n" for line in batch))
