# SPDX-License-Identifier: Apache-2.0
"""Health checks: probes, the network that they go over, and how their results become verdicts.

Must not know maps, weights or what a verdict is used for.
"""
