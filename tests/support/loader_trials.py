# SPDX-License-Identifier: Apache-2.0
"""A small program to load, and what one can ask of what was loaded.

It stands in a directory `bpf` with its headers, as the real one does.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from xdpdirector import libbpf
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths

FRAME = bytes(64)
SMALL = Sizes(services=4, backends=8, listeners=16, connections=1024, connections6=1024, ring_slots=251)

DIRECTOR = """\
#include <uapi/linux/bpf.h>
#include "types.h"
#include "maps.h"

int director(struct xdp_md *ctx)
{
	u32 zero = 0;
	struct zoo *zoo = zoos.lookup(&zero);
	u64 *count = counts.lookup(&zero);

	if (!zoo || !count)
		return XDP_PASS;
	*count += 1;
	fill(zoo);
	return XDP_PASS;
}

int clock(struct xdp_md *ctx)
{
	return XDP_DROP;
}
"""

TYPES = """\
struct pair {
	u16 left;
	u8 right;
	u8 pad;
};

struct zoo {
	u8 octet;
	u32 word;
	s16 negative;
	u64 wide;
	u32 low : 20, high : 12;
	u8 mac[6];
	u16 shorts[3];
	struct pair pair;
	struct pair pairs[2];
	union {
		u32 choice;
		u8 part;
	};
	__be32 address[4];
	u8 last;
};

static __always_inline void fill(struct zoo *zoo)
{
	zoo->octet = 0x11;
	zoo->word = 0x22222222;
	zoo->negative = -3;
	zoo->wide = 0x4444444444444444;
	zoo->low = 0x55555;
	zoo->high = 0x666;
	zoo->mac[0] = 0x70;
	zoo->mac[5] = 0x75;
	zoo->shorts[2] = 0x8888;
	zoo->pair.left = 0x9999;
	zoo->pairs[1].right = 0xaa;
	zoo->choice = 0xbbbbbbbb;
	zoo->address[3] = 0xcccccccc;
	zoo->last = 0xdd;
}
"""

MAPS = """\
BPF_TABLE_PINNED("array", u32, struct zoo, zoos, 1, PIN_DIR "zoos");
BPF_TABLE_PINNED("array", u32, u64, counts, MAX_SERVICES, PIN_DIR "counts", BPF_F_MMAPABLE);
BPF_TABLE_PINNED("percpu_array", u32, struct pair, tallies, 4, PIN_DIR "tallies");
BPF_TABLE_PINNED("lru_hash", struct pair, u32, flows, MAX_CONNECTIONS, PIN_DIR "flows");
BPF_XDP_REDIRECT_MAP("devmap:" PIN_DIR "ports", int, ports, 64);
"""


def write(directory: Path, director: str = DIRECTOR, types: str = TYPES, maps: str = MAPS) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "types.h").write_text(types)
    (directory / "maps.h").write_text(maps)
    (directory / "director.c").write_text(director)
    return directory / "director.c"


def program_id(interface: str) -> int:
    return state(interface).program_id


def state(interface: str) -> libbpf.XdpState:
    return libbpf.xdp_query(socket.if_nametoindex(interface))


def pinned_id(path: Path) -> int:
    with libbpf.opened(path) as fd:
        return libbpf.prog_info(fd).id


def map_ids(loaded: Loaded) -> dict[str, int]:
    ids = {}
    for name in loaded.maps:
        with libbpf.opened(loaded.pins / name) as fd:
            ids[name] = libbpf.map_info(fd).id
    return ids


def run_once(path: Path) -> libbpf.RunResult:
    with libbpf.opened(path) as fd:
        return libbpf.prog_test_run(fd, FRAME)


def snapshot(paths: InstancePaths) -> tuple[list[str], int, str]:
    """Everything of an instance that a failure must leave alone."""
    pins = sorted(str(path.relative_to(paths.pins)) for path in paths.pins.rglob("*"))
    return pins, pinned_id(paths.pins / "program"), paths.layout.read_text()


def in_python(code: str, *prefix: str, **environment: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def answer(*prefix: str, instance: str, program: Path) -> dict[str, Any]:
    """The loader's own answer as a command, started through another command."""
    command = [
        *prefix,
        sys.executable,
        "-m",
        "xdpdirector.loader.compiler",
        "prepare",
        "--instance",
        instance,
    ]
    done = subprocess.run(
        [*command, "--sizes", SMALL.model_dump_json(), "--program", str(program)],
        capture_output=True,
        text=True,
        check=False,
    )
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == ("error" in document)
    return document


def decoded(struct: dict[str, Any], raw: bytes) -> dict[str, Any]:
    return {field["name"]: decoded_field(field, raw) for field in struct["fields"]}


def decoded_field(field: dict[str, Any], raw: bytes) -> Any:
    part = raw[field["offset"] : field["offset"] + field["size"]]
    kind = field["type"]
    if "count" in field:
        size = field["size"] // field["count"]
        element = {"name": "", "offset": 0, "size": size, "type": kind}
        return [decoded_field(element, part[at : at + size]) for at in range(0, len(part), size)]
    if isinstance(kind, dict):
        return decoded(kind, part)
    if kind == "bytes":
        return part
    number = int.from_bytes(part, sys.byteorder, signed=kind.startswith("s"))
    shift, width = field.get("bits", (0, 64))
    return number >> shift & (1 << width) - 1 if "bits" in field else number
