# SPDX-License-Identifier: Apache-2.0
"""The director once more, in plain Python, from the RFCs and the design: what it should do with a frame.

Written apart from bpf/, for clarity and not for speed, so that a mistake would have to be made twice.
"""
