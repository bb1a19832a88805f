# SPDX-License-Identifier: Apache-2.0
"""The API's promise: its OpenAPI document, as it is committed in `openapi.json`, and what would break it.

`python -m dev.openapi_contract` writes the document anew (so does `./lab openapi`). It refuses to break what
was promised before, unless it is told to (`--break`). Run by people who change the API, never by the daemon.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dev.openapi_diff import Json, breaking
from xdpdirector.api.app import create_app

DOCUMENT = Path(__file__).parents[1] / "api/openapi.json"
COMMAND = "./lab openapi (or: python -m dev.openapi_contract)"


def current() -> Json:
    """The document of the API as it is in the source."""

    class Nothing:
        """A director that nobody asks anything."""

    document = create_app(Nothing()).openapi()  # type: ignore[arg-type]
    shown: Json = json.loads(json.dumps(document))
    return shown


def text(document: Json) -> str:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the document; 1 when it would break its promise, and nothing is written."""
    after = current()
    broken = breaking(json.loads(DOCUMENT.read_text()), after) if DOCUMENT.exists() else []
    for sentence in broken:
        print(f"breaks clients: {sentence}", file=sys.stderr)
    if broken and arguments != ["--break"]:
        print(
            "nothing is written; if that is meant: python -m dev.openapi_contract --break",
            file=sys.stderr,
        )
        return 1
    DOCUMENT.write_text(text(after))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
