# SPDX-License-Identifier: Apache-2.0
"""Text from outside, such as a backend's reply, a reason or a name, made harmless before it is shown.

A line break forges a line of a log, ESC and the C1 controls are commands to a terminal, and characters that change
the direction of text (Unicode UAX 9) let it show as another one. This is the one place that knows them. Pure.
"""

from __future__ import annotations

_C0, _DELETE, _C1 = range(32), 127, range(0x80, 0xA0)
_BREAKS = (0x2028, 0x2029)
"""Line and paragraph separator."""
_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))

_IN_JSON = {code: f"\\u{code:04x}" for code in (_DELETE, *_C1, *_BREAKS, *_BIDI)}
_IN_LINES = _IN_JSON | {code: "\N{REPLACEMENT CHARACTER}" for code in (*_C0, _DELETE, *_C1) if code != 10}
_IN_A_LINE = _IN_JSON | {code: f"\\x{code:02x}" for code in (*_C0, _DELETE, *_C1)} | {
    ord(shown): repr(shown)[1:-1] for shown in "\t\n\r"
}  # fmt: skip


def line(text: str) -> str:
    """One line, for a log or a sentence."""
    return text if text.isprintable() else text.translate(_IN_A_LINE)


def lines(text: str) -> str:
    """Its line breaks stay, for a terminal."""
    return text.translate(_IN_LINES)


def json(text: str) -> str:
    """JSON text without raw characters that a terminal would obey; the value is the same (RFC 8259, 7)."""
    return text.translate(_IN_JSON)
