# SPDX-License-Identifier: Apache-2.0
"""Network configuration of this host, read and written over rtnetlink: interfaces, next hops, neighbours,
VIPs, tc, network namespaces.

Must not know services, health or the packet program's maps.
"""
