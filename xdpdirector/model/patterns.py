# SPDX-License-Identifier: Apache-2.0
"""Regular expressions that an operator gives, searched for in what servers send.

RE2 matches them: its time is linear in the text, whatever the expression. Python's `re` backtracks, so that a
hostile page can hold it for hours. RE2 does not know what cannot be matched in linear time: lookaround,
back-references. Knows nothing of checks.
"""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Any

MEMORY = 1 << 20  # octets that one expression may take for its states; a search that wants more gets slower
LARGEST = 2000  # instructions of RE2's program: a search of 64 KiB takes two seconds at the very worst
AT_ONCE = 1 << 17  # instructions times octets: some two milliseconds at the very worst
THREADS = 2
# Python takes {,3} for {0,3}, RE2 for these four characters: nobody shall find that out by a backend that is down.
_NO_FIRST_NUMBER = re.compile(r"(?<!\\)(?:\\\\)*(\{,\d+\})")
_HINTS = {
    r"invalid escape sequence: \Z": r"write \z for the end of the text",
    "invalid escape sequence": "back-references are not supported: they cannot be matched in linear time",
    "invalid perl operator": "lookaround and the like are not supported: they cannot be matched in linear time",
    "bad repetition operator": "possessive and doubled repetitions are not supported",
    "invalid repetition size": "a repetition counts to 1000 at most",
    "pattern too large": "make it shorter, or count to smaller numbers",
}


def refusal(text: str) -> str:
    """Why this cannot be searched for, as a sentence; empty when it can."""
    import re2

    if unlike := _NO_FIRST_NUMBER.search(text):
        written = unlike[1]
        return f"'{text}': write {{0{written[1:]} instead of {written}, which RE2 would take literally"
    try:
        size = _compiled(text).programsize
    except UnicodeEncodeError:
        return "a character of the regular expression is none (a lone surrogate)"
    except re2.error as error:
        why = error.args[0].decode("utf-8", "replace") if error.args else "it cannot be read"
        hint = next((words for begin, words in _HINTS.items() if why.startswith(begin)), "")
        return f"'{text}' is not a regular expression of RE2: {why}" + (f" ({hint})" if hint else "")
    if size > LARGEST:
        return f"'{text}' is too large a regular expression: count to smaller numbers in it"
    return ""


class Search:
    """One search. `begun`: it runs or has run; before that, others may be in its way."""

    def __init__(self, text: str, data: bytes) -> None:
        """ValueError for what `refusal` refuses."""
        if why := refusal(text):
            raise ValueError(why)
        self.text, self._data = text, data
        self.begun = False

    async def found(self) -> bool:
        """Whether it is in there, octet by octet. `$` also matches before a newline at the end, as in Perl and
        Python. A long search is made in a thread, which goes on to its end when this is cancelled."""
        if _compiled(self.text).programsize * len(self._data) <= AT_ONCE:
            return self._search()
        return await asyncio.get_running_loop().run_in_executor(_threads(), self._search)

    def _search(self) -> bool:
        self.begun = True
        search = _compiled(self.text).search
        before_newline = "$" in self.text and self._data.endswith(b"\n")
        return bool(search(self._data) or (before_newline and search(self._data[:-1])))


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="search")


@lru_cache(maxsize=256)
def _compiled(text: str) -> Any:
    """re2.error for what is none. Imported here: most configurations have no expression."""
    import re2

    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1  # octets, as servers may send anything
    options.max_mem, options.never_capture, options.log_errors = MEMORY, True, False
    return re2.compile(text.encode(), options)
