# SPDX-License-Identifier: Apache-2.0
"""What any part needs of the operating system: files, users, processes, clocks, tasks.

Must not know directors, services or packets: imports nothing of this project but its errors.
"""
