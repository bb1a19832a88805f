# SPDX-License-Identifier: Apache-2.0
"""The lab: a LAN of network namespaces in which a director serves real clients from real servers.

`Lab` is the way in, for tests, the demo and users' own trials.
"""

from xdpdirector.lab.lab import Lab

__all__ = ["Lab"]
