# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.bench.generator PIN INTERFACE FRAME`: send a frame again and again until killed.

The frame (in hex) goes through the pinned XDP program as live frames of test-run, which changes and transmits it
on the interface: no socket and no sk_buff is involved.
"""

from __future__ import annotations

import socket
import sys

from xdpdirector import libbpf

FRAMES = 1 << 18  # of one call


def main(pin: str, interface: str, frame: str) -> None:
    data, index = bytes.fromhex(frame), socket.if_nametoindex(interface)
    with libbpf.opened(pin) as program:
        while True:
            libbpf.prog_test_run(program, data, index, repeat=FRAMES, live=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
