# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.bench.connector ADDRESS PORT SECONDS`: one connection after the other, each with one
HTTP/1.0 request, as fast as they come. Prints a JSON object. The server closes first, so its side keeps TIME-WAIT
(RFC 9293, 3.6) and the client does not run out of ports."""

from __future__ import annotations

import json
import socket
import sys
import time

PATIENCE = 1.0
_REQUEST = b"GET /who HTTP/1.0\r\n\r\n"
_GOOD = b" 200 "


def connect(address: str, port: int, seconds: float) -> dict[str, float]:
    """How many connections were `served`, how many `failed`, in how many `seconds`."""
    served = failed = 0
    begin = time.monotonic()
    while (now := time.monotonic()) < begin + seconds:
        if _ask(address, port):
            served += 1
        else:
            failed += 1
    return {"served": served, "failed": failed, "seconds": now - begin}


def _ask(address: str, port: int) -> bool:
    answer = b""
    try:
        with socket.create_connection((address, port), PATIENCE) as connection:
            connection.sendall(_REQUEST)
            while part := connection.recv(4096):
                answer += part
    except OSError:
        return False
    return _GOOD in answer.partition(b"\r\n")[0]


if __name__ == "__main__":
    print(json.dumps(connect(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
