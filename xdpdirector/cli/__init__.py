# SPDX-License-Identifier: Apache-2.0
"""The command line. This module turns what a command raises into one paragraph and an exit code.

Imports are held back all over this package: a command that asks the daemon something must start at once, so
pydantic, FastAPI and the data plane are loaded by none but the commands that run them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from xdpdirector.errors import DirectorError

INTERRUPTED = 130
PIPE_CLOSED = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 (unhealthy), or that of the error (2 usage ... 6 not allowed)."""
    from xdpdirector.cli.app import command

    try:
        command()(args=None if argv is None else list(argv), prog_name="xdpdirector")
        sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except DirectorError as error:
        print(f"xdpdirector: {error.detail}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _close_quietly()
    return 0


def _close_quietly() -> int:
    """The reader has gone (`| head`): nothing to say, and nothing may be flushed at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED
