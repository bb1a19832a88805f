# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpdirector`: the command line."""

import sys

from xdpdirector.cli import main

if __name__ == "__main__":
    sys.exit(main())
