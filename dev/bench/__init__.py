# SPDX-License-Identifier: Apache-2.0
"""The bench: what a packet costs here, beside the least that it could cost, and what comes through end to end.

Noise is expected: everything that is compared is measured in turn, in rounds, within one run, and what counts
are ratios of minimums.
"""
