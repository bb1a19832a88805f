# SPDX-License-Identifier: Apache-2.0
"""What outlives the daemon, in SQLite: state.db (revisions, deny list, idempotency) and access.db (tokens, audit).

The only package that may import sqlite3. Must not know the data plane or HTTP.
"""
