# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpdirector.lab.xdp_pass_port PORT...`: let a veth receive what native XDP transmits on its peer.

A veth takes XDP_TX and XDP_REDIRECT frames from its peer only while it polls (NAPI), and it polls while it
has an XDP program of its own. "Pass everything" is two instructions and needs no compiler. Runs in the ports'
namespace.
"""

from __future__ import annotations

import os
import socket
import struct
import sys

from xdpdirector import libbpf

_MOVE_IMMEDIATE, _EXIT = 0xB7, 0x95  # BPF_ALU64 | BPF_MOV | BPF_K and BPF_JMP | BPF_EXIT, linux/bpf.h


def _instruction(code: int, immediate: int = 0) -> bytes:
    """struct bpf_insn: code, registers (r0), offset, immediate."""
    return struct.pack("=BBhi", code, 0, 0, immediate)


def main(ports: list[str]) -> int:
    """Give each port the program in native mode; it stays when this process has gone."""
    verdict = _instruction(_MOVE_IMMEDIATE, libbpf.XdpVerdict.PASS)
    program = libbpf.xdp_prog_load("lab_pass", verdict + _instruction(_EXIT))
    try:
        for port in ports:
            libbpf.xdp_attach(socket.if_nametoindex(port), program, libbpf.XdpFlags.NATIVE)
    finally:
        os.close(program)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
