# SPDX-License-Identifier: Apache-2.0
"""Plays a capture from the client's side through a live lab, and looks at what each backend received."""
