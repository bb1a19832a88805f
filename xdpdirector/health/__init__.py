# SPDX-License-Identifier: Apache-2.0
"""Health checks: probes, the network path that they take, and how their results become up or down.

Must not know maps, weights or how the result is used.
"""
