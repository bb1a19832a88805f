# SPDX-License-Identifier: Apache-2.0
"""What an operator may say for the commands of Linux Virtual Server. Knows listeners; nothing of services."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from xdpdirector.model.fields import ByName, Frozen, ListenerField
from xdpdirector.model.listener import Listener

HIGHEST_MARK = (1 << 32) - 1

Mark = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,9}$")]
Marked = Annotated[tuple[ListenerField, ...], Field(min_length=1, max_length=256)]


class LvsSpec(Frozen):
    """`fwmarks`: the listeners that a firewall mark stands for in `xdpdirector ipvsadm -f MARK`. Packets have no
    mark where this director sees them; for IPVS, rules of iptables or nft give it to them."""

    fwmarks: Annotated[dict[Mark, Marked], Field(max_length=4096), ByName()] = Field(
        default_factory=dict,
        description="The listeners that a firewall mark stands for, by the mark as a decimal number.",
    )

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        owners: dict[Listener, str] = {}
        for mark, listeners in self.fwmarks.items():
            if int(mark) > HIGHEST_MARK:
                raise ValueError(f"firewall mark {mark} is out of range: use 1 to {HIGHEST_MARK}")
            for listener in listeners:
                other = owners.setdefault(listener, mark)
                if other != mark:
                    raise ValueError(f"listener {listener} stands in the firewall marks {other} and {mark}")
        return self
