# SPDX-License-Identifier: Apache-2.0
"""The command line. This module turns what a command raises into one paragraph and an exit code.

Imports are held back all over this package: a command that asks the daemon something must start at once, so the
models, the API and the data plane are loaded by none but the commands that run them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from xdpdirector.cli import daemon_entry, ipvsadm, readiness, streams
from xdpdirector.cli.exit_codes import INTERRUPTED, PIPE_CLOSED
from xdpdirector.errors import DirectorError
from xdpdirector.system import sanitize

DEBUG = "XDPDIRECTOR_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 (unhealthy), or that of the error (2 usage ... 6 not allowed)."""

    def command_line() -> int:
        if order := daemon_entry.plain_order(sys.argv[1:] if argv is None else argv, os.environ):
            return daemon_entry.serve(*order)
        if asked := ipvsadm.plain_order(sys.argv[1:] if argv is None else argv, os.environ):
            with streams.reporting():
                return ipvsadm.run(asked)
        if (instance := readiness.asked(sys.argv[1:] if argv is None else argv, os.environ)) is not None:
            return readiness.answer(instance)
        from xdpdirector.cli.app import command

        with streams.reporting():
            command()(args=None if argv is None else list(argv), prog_name="xdpdirector")
        return 0

    return ended(command_line, "xdpdirector")


def ended(command: Callable[[], int], program: str) -> int:
    """The exit code of `program`: what its `command` returns or raises, an error as one paragraph."""
    streams.prepare()
    try:
        return command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except DirectorError as error:
        print(f"{program}: {sanitize.lines(error.detail)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # of standard error, as standard output has its own answer to that
        return PIPE_CLOSED
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        _report_internal_error(error)
        return 1


def _report_internal_error(error: Exception) -> None:
    """A mistake of ours: the daemon's log gets all of it, a person one line."""
    import logging

    if logging.root.handlers:
        logging.getLogger("xdpdirector").critical("an unexpected error ends the program", exc_info=error)
        return
    print(
        f"xdpdirector: the program made a mistake ({type(error).__name__}: {sanitize.line(str(error))}). "
        f"Please report it, with what {DEBUG}=1 shows.",
        file=sys.stderr,
    )
