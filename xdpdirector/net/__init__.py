# SPDX-License-Identifier: Apache-2.0
"""What rtnetlink says of this host, and what is asked of it: interfaces, next hops, neighbours, VIPs, tc,
namespaces.

Must not know services, health or the packet program's maps.
"""
