# SPDX-License-Identifier: Apache-2.0
"""What listens: sockets, TLS, connections and how many there may be. Must not know a route."""
