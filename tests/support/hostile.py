# SPDX-License-Identifier: Apache-2.0
"""`python hostile.py KIND PORT SOURCE SECONDS TOKEN...`: clients that ask the API on loopback for too much.

    reader    thirty connections that read all that is long, fifteen times a second
    writer    large requests that are refused: what is wrong with them is found early, late, or ten thousand times
    flood     thirty connections with small requests that are refused, one behind the other without a pause

SOURCE is the address that they come from; `reader` and `flood` have a token, `writer` those of `operate` and
`admin`. At the end it prints how many answers of which status there were, as JSON; `none` counts those that were
not given. Knows no lab.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import cycle

AT_ONCE = 30
READS_A_SECOND, WRITES_A_SECOND = 15.0, 40.0
PATIENCE = 30.0  # seconds for an answer
READS = (
    "/v1/connections?limit=1000",
    "/v1/connections?limit=1000",
    "/v1/connections?limit=10000",
    "/v1/services",
    "/metrics",
    "/v1/connections?limit=1000&client=203.0.113.99",
    "/v1/stats",
    "/v1/events?follow=false&last=10000",
    "/v1/services?sort=-name",
)


def request(method: str, path: str, token: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: x",
        "Connection: close",
        f"Authorization: Bearer {token}",
        *headers,
    ]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join((*lines, "", "")).encode() + body


def bad_requests(operate: str, admin: str) -> list[bytes]:
    strange = json.dumps({f"key{number}": number for number in range(80_000)}).encode()
    faults = json.dumps(
        {"interfaces": ["eth0"], "services": {f"s{number}": {"listeners": 7} for number in range(28_000)}}
    ).encode()
    ranges = json.dumps(
        {
            "interfaces": ["eth0"],
            "services": {
                f"s{number}": {"listeners": [f"10.{number >> 8}.{number & 255}.1:1-65535/tcp"]}
                for number in range(4_000)
            },
        }
    ).encode()
    deep = b'{"name":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    drain, services, config = "/v1/services/web/backends/backend1/drain", "/v1/services", "/v1/config"
    return [
        b"GARBAGE\r\n\r\n",
        request("GET", "/v1/stats", "xdpd_000000000000_wrong"),
        request("GET", services, operate, b"", 'If-None-Match: "a"' + " " * 15_000 + "x"),
        request("GET", services, operate, b"", "X-Long: " + "x" * 100_000),
        request("GET", "/v1/" + "x/" * 4_000, operate),
        request("GET", services + "?" + "&".join(f"a{number}=1" for number in range(1_500)), operate),
        request("GET", services + "?selector=" + "a" * 8_000, operate),
        request("POST", drain, operate, strange),
        request("PUT", config, operate, faults),
        request("POST", services, admin, deep),
        request("PUT", config, admin, faults),
        request("POST", services, admin, b'{"name": "' + b"\\u0000" * 50_000 + b'"}'),
        request("PUT", config + "?dry_run=true", admin, ranges),
        request("POST", services, admin, b'{"name": "web", ' * 3_000),
    ]


async def answered(port: int, source: str, asked: bytes) -> str:
    """The status."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            try:
                writer.write(asked)
                status = await reader.readline()
                while await reader.read(1 << 16):
                    pass
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return "none"
    return status.split()[1].decode() if status.startswith(b"HTTP/1.1 ") else "none"


async def ask(port: int, source: str, seconds: float, rate: float, requests: Sequence[bytes]) -> Counter[str]:
    """In turns, so many a second, but never more at once than AT_ONCE."""
    loop, statuses, room = asyncio.get_running_loop(), Counter[str](), asyncio.Semaphore(AT_ONCE)
    begun = loop.time()

    async def one(asked: bytes) -> None:
        async with room:
            statuses[await answered(port, source, asked)] += 1

    async with asyncio.TaskGroup() as group:
        for number, asked in enumerate(cycle(requests)):
            if loop.time() - begun >= seconds:
                break
            await asyncio.sleep(max(0.0, begun + number / rate - loop.time()))
            async with room:  # not begun before there is room, or what waits would grow
                group.create_task(one(asked))
    return statuses


async def insist(port: int, source: str, seconds: float, token: str) -> Counter[str]:
    """On connections that are kept; one that is closed is opened again."""
    loop, statuses = asyncio.get_running_loop(), Counter[str]()
    until = loop.time() + seconds
    refused = [
        request("GET", "/v1/services?strange=1", token),
        request("GET", "/v1/nothing", token),
        request("DELETE", "/v1/services/web", token),
        request("POST", "/v1/explain", token, b'{"vip": 7}'),
    ]
    kept = [text.replace(b"Connection: close\r\n", b"") for text in refused]

    async def one() -> None:
        while loop.time() < until:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            except OSError:
                statuses["none"] += 1
                await asyncio.sleep(0.1)
                continue
            try:
                for asked in cycle(kept):
                    writer.write(asked)
                    head = await reader.readuntil(b"\r\n\r\n")
                    await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split()[0]))
                    statuses[head.split()[1].decode()] += 1
                    if loop.time() >= until:
                        break
            except (OSError, EOFError):
                statuses["none"] += 1
            finally:
                writer.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one())
    return statuses


def main(kind: str, port: str, source: str, seconds: str, *tokens: str) -> None:
    if kind == "reader":
        asking = ask(
            int(port),
            source,
            float(seconds),
            READS_A_SECOND,
            [request("GET", path, *tokens) for path in READS],
        )
    elif kind == "writer":
        asking = ask(int(port), source, float(seconds), WRITES_A_SECOND, bad_requests(*tokens))
    else:
        asking = insist(int(port), source, float(seconds), *tokens)
    print(json.dumps(asyncio.run(asking)))


if __name__ == "__main__":
    main(*sys.argv[1:])
