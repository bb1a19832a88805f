# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpdirector.giver`: what systemd units of releases before 0.2 start; it is health/socket_helper.py."""

import sys

from xdpdirector.health.socket_helper import main

if __name__ == "__main__":
    sys.exit(main())
