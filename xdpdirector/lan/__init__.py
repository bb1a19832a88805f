# SPDX-License-Identifier: Apache-2.0
"""What is true on the local network: who answers for the VIPs, and whether each backend has them.

frames (pure)  -> wire (the socket) -> inquiry (asks) -> rounds (what to ask) \
claims, presence (what was heard) -> judge (pure: findings) -> ledger (since when, events) -> watch (the whole)
"""
