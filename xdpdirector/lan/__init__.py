# SPDX-License-Identifier: Apache-2.0
"""Monitors the local network: which machines answer for the VIPs, and whether each backend has its VIPs.

frame_builder (pure) -> packet_socket -> request (sends, waits) -> prober (what to probe, and at which rate)
frame_parser (pure) -> observations, vip_probe -> rules (pure: what is wrong) -> findings (since when)
monitor: connects all of them
"""
