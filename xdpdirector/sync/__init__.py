# SPDX-License-Identifier: Apache-2.0
"""Connection sync: directors of a pair or fleet hold each other's connections, so that a connection outlives the
director that it runs through.

Each director sends its own table to each peer over a TCP connection of its own: first all of it (bulk), then what
changes. Reads and writes the pinned connection tables; knows nothing of health, desired state or HTTP.
"""
