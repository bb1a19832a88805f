# SPDX-License-Identifier: Apache-2.0
"""Configuration for the daemons that move VIPs between directors: keepalived (VRRP), BIRD and FRR
(BGP). Pure text; knows no director that runs.
"""
