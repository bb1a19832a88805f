# SPDX-License-Identifier: Apache-2.0
"""Joins what is desired with what is observed into plans, and keeps the data plane so.

`director` is the facade for the API and the daemon. Must not know HTTP, or how a process starts and ends.
"""
