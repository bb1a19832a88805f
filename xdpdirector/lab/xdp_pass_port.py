# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpdirector.lab.xdp_pass_port PORT...`: let a veth receive what native XDP transmits on its peer.

A veth takes XDP_TX and XDP_REDIRECT frames from its peer only while it polls (NAPI), and it polls while it
has an XDP program of its own. "Pass everything" is two instructions and needs no compiler. Runs in the ports'
namespace.
"""

from __future__ import annotations

import os
import socket
import sys

from xdpdirector import libbpf


def main(ports: list[str]) -> int:
    """Give each port the program in native mode; it stays when this process has gone."""
    program = libbpf.xdp_pass_prog_load("lab_pass", has_frags=True)
    try:
        for port in ports:
            libbpf.xdp_attach(socket.if_nametoindex(port), program, libbpf.XdpFlags.NATIVE)
    finally:
        os.close(program)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
