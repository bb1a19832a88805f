# SPDX-License-Identifier: Apache-2.0
"""The process: start-up with root's rights, dropping them, life and end, notifications to systemd.

Must not decide anything of services or packets.
"""
