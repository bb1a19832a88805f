# SPDX-License-Identifier: Apache-2.0
"""Address masks as the 32-bit words that the packet path uses. Pure."""

from __future__ import annotations

import sys


def mask_words(prefix: int, words: int) -> list[int]:
    """The mask of a prefix length, as `words` 32-bit words."""
    bits = (1 << 32 * words) - (1 << 32 * words - prefix)
    packed = bits.to_bytes(4 * words, "big")
    return [int.from_bytes(packed[i : i + 4], sys.byteorder) for i in range(0, len(packed), 4)]
