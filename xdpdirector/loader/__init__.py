# SPDX-License-Identifier: Apache-2.0
"""Compiles, pins and attaches the packet program, pins its maps, and describes them in layout.json.

The only package that may import bcc. Must not know services, or the contents of the maps.
"""
