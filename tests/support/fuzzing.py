# SPDX-License-Identifier: Apache-2.0
"""schemathesis as a program that asks a daemon; `fuzz.toml` and `fuzz_hooks.py` say how. Knows no daemon."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xdpdirector.client import Client

HERE = Path(__file__).parent
SEED = os.environ.get("XDPDIRECTOR_SEED", "1")

SINGLE = ("examples", "coverage", "fuzzing")

Resources = Mapping[str, Mapping[str, Any]]
"""What the API has when the fuzz begins, by path."""


class Run(NamedTuple):
    """A command, and what it needs in its environment."""

    line: list[str]
    environment: dict[str, str]


def create_resources(client: Client, resources: Resources) -> None:
    """And, beside them, a denied prefix and a token."""
    for path, document in resources.items():
        collection, _, name = path.rpartition("/")
        client.post(collection, {"name": name, **document})
    client.post("/v1/guard/deny", {"prefix": "203.0.113.0/24"})
    client.post("/v1/tokens", {"name": "spare", "role": "read"})


def runs(
    client: Client,
    url: str,
    token: str,
    directory: Path,
    resources: Resources,
    *options: str,
    single: Sequence[str] = SINGLE,
) -> list[Run]:
    """Ask what listens at `url` for all that the document of `client`'s daemon promises: single cases, and then
    sequences.

    Among single cases what a case took away stands again; not in sequences, which look whether what was deleted is
    gone. `single`: kinds of such cases.
    """
    document = directory / "openapi.json"
    document.write_text(json.dumps(client.get("/openapi.json")))
    line = [
        sys.executable,
        "-m",
        "schemathesis.cli",
        "--config-file",
        str(HERE / "fuzz.toml"),
        "run",
        str(document),
    ]
    line += ["--url", url, "--seed", SEED, *options, "--phases"]
    access = {"XDPDIRECTOR_URL": url, "XDPDIRECTOR_TOKEN": token, "PYTHONPATH": str(HERE)}
    return [
        Run([*line, phases], access | {"XDPDIRECTOR_RESOURCES": json.dumps(restored)})
        for phases, restored in ((",".join(single), resources), ("stateful", {}))
    ]
