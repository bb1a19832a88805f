# SPDX-License-Identifier: Apache-2.0
"""Exit codes that are no error's: what a shell shows of a program that a signal ended."""

from __future__ import annotations

INTERRUPTED = 130  # SIGINT
PIPE_CLOSED = 141  # SIGPIPE
