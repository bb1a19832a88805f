# SPDX-License-Identifier: Apache-2.0
"""The command line. This module turns what a command raises into one paragraph and an exit code.

Imports are held back all over this package: a command that asks the daemon something must start at once, so the
models, the API and the data plane are loaded by none but the commands that run them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from xdpdirector.errors import DirectorError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 (unhealthy), or that of the error (2 usage ... 6 not allowed)."""
    try:
        from xdpdirector.cli.app import command

        command()(args=None if argv is None else list(argv), prog_name="xdpdirector")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except DirectorError as error:
        print(f"xdpdirector: {error.detail}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
