# SPDX-License-Identifier: Apache-2.0
"""XDP Director: Linux Virtual Server style direct routing at the XDP hook."""

__version__ = "0.2.0"
