# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpdirector.cli`, the same as `xdpdirector`."""

import sys

from xdpdirector.cli import main

sys.exit(main())
