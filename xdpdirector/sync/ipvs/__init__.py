# SPDX-License-Identifier: Apache-2.0
"""The sync protocol of the Linux kernel's IPVS: connections of an LVS director come in, and ours go out to one.

As `ipvsadm --start-daemon backup` and `master` on the other side. Unauthenticated, as there. Knows what connection
sync knows (`xdpdirector.sync`), and which services and backends there are.
"""
