# SPDX-License-Identifier: Apache-2.0
"""The packet program: compiled, its maps and itself pinned, attached, and described in layout.json.

The only package that may import bcc. Must not know services, or what the maps hold.
"""
