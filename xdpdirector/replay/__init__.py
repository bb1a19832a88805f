# SPDX-License-Identifier: Apache-2.0
"""Sends captures through the real packet program, in a copy of its own: nothing of the machine is touched."""

from xdpdirector.replay.replay import Replay as Replay
