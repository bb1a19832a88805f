# SPDX-License-Identifier: Apache-2.0
"""Reads and writes the pinned BPF maps: applies plans; reads counters, connections, traces and explanations;
migrates map contents to another layout.

Other packages use it through `interface`. Must not know health checks, the desired state, or who requests a
change. Only this package and `replay` may import numpy.
"""
