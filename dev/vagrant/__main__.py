# SPDX-License-Identifier: Apache-2.0
"""What runs in the namespaces of `den`: CHECKOUT BACKENDS PAIR, and what took how long before, as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dev.vagrant.account import Account
from dev.vagrant.command import Options, inside
from dev.vagrant.pair import TooSlowError
from xdpdirector.errors import DirectorError


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    checkout, backends, pair, steps = sys.argv[1:]
    try:
        inside(Options(Path(checkout), int(backends), pair == "1"), Account.of(json.loads(steps), say))
    except DirectorError as error:
        say(f"failed: {error}")
        return error.exit_code if isinstance(error, TooSlowError) else 1
    say("all went as it should")
    return 0


if __name__ == "__main__":
    sys.exit(main())
