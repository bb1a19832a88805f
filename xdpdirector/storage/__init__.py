# SPDX-License-Identifier: Apache-2.0
"""What outlives the daemon: in SQLite state.db (revisions, deny list, idempotency) and access.db (tokens, audit);
revisions and drains of a fleet in etcd; backups of an instance.

The only package that may import sqlite3 or speak with etcd. Must not know the data plane or the API.
"""
