# SPDX-License-Identifier: Apache-2.0
"""The process: start-up with root's rights, how these are given up, life and end, what systemd is told.

Must not decide anything of services or packets.
"""
