# SPDX-License-Identifier: Apache-2.0
"""The way from Linux Virtual Server, and back: `ipvsadm` as its users know it, and the configurations of keepalived
and ldirectord. Translates; talks to the daemon as any other client does. Must not know maps or packets.
"""
