# SPDX-License-Identifier: Apache-2.0
"""What is true on the local network: who answers for the VIPs, and whether each backend has them.

frame_builder (pure) -> packet_socket -> request (asks, waits) -> prober (what to ask, how fast) \
frame_parser -> observations, vip_probe -> rules (pure: what is wrong) -> findings (since when) -> monitor (the
whole)
"""
