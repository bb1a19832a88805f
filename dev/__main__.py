# SPDX-License-Identifier: Apache-2.0
"""`python -m dev VERB`: what `./lab VERB` runs."""

import sys

from xdpdirector.cli import ended

if __name__ == "__main__":
    from dev.commands import app

    sys.exit(ended(lambda: app(prog_name="./lab"), "lab"))
