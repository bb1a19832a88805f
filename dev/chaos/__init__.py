# SPDX-License-Identifier: Apache-2.0
"""Chaos: a director under load, whose network, processes, disk and clock are disturbed while it is administered and
attacked. No connection of a living backend may notice.

What is done, and when, follows from a seed (`schedule`). Disturbances, operations, floods and clients know nothing
of each other; `expectations` decides from what each of them wrote down.
"""
