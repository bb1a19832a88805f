# SPDX-License-Identifier: Apache-2.0
"""The pinned maps: plans go in; counters, connections, traces and explanations come out; and the way to other
layouts.

`interface` is what the rest of the project sees of it. Must not know health checks, the desired state or who asks.
With `replay` the only package that may import numpy.
"""
