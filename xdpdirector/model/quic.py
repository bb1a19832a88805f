# SPDX-License-Identifier: Apache-2.0
"""QUIC connection IDs that name backends: what they look like, and which ID a backend has.

Knows addresses and numbers; nothing of services, packets or maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from xdpdirector.model.fields import NUMBER, Flag, Frozen, key
from xdpdirector.model.listener import Address

MOST_ID = 18
LONGEST_CID = 20  # RFC 9000, 17.2
_MOST_LB_ID = 15  # draft-ietf-quic-load-balancers: with a first octet and a nonce of 4 at least

QuicId = Annotated[str, Field(pattern=rf"^([0-9a-f]{{2}}){{1,{MOST_ID}}}$")]


class QuicSpec(Frozen):
    """How a service's servers write their IDs into the connection IDs that they issue.

    `quic-lb`: as the plaintext algorithm of draft-ietf-quic-load-balancers: a first octet with `config_id` in its
    upper three bits, the ID, a nonce of 4 octets or more. `offset`: the ID stands `offset` octets behind the
    beginning.
    """

    cids: Literal["quic-lb", "offset"] = Field(
        description="How backends write their IDs into the connection IDs that they issue: as the plaintext "
        "algorithm of QUIC-LB does, or at an `offset`."
    )
    length: Annotated[int, Field(ge=1, le=MOST_ID), NUMBER] = key(
        4, "Size of a backend's ID; at most 15 with `quic-lb`.", "octets"
    )
    offset: Annotated[int, Field(ge=0, le=LONGEST_CID - 1), NUMBER] | None = key(
        None,
        "Where the ID begins in a connection ID; for `offset`, and 0 by default. It must end within 20 octets.",
        "octets",
    )
    config_id: Annotated[int, Field(ge=0, le=6), NUMBER] | None = key(
        None,
        "The codepoint in the upper three bits of the first octet; for `quic-lb`, and 0 by default. Connection IDs "
        "with another one name nobody.",
    )
    encodes_length: Flag = key(
        False,
        "Whether the other five bits of the first octet are the number of octets behind it, and connection IDs "
        "where they are not name nobody; for `quic-lb`.",
    )

    @model_validator(mode="after")
    def _keys_fit(self) -> Self:
        if self.cids == "quic-lb":
            if self.offset is not None:
                raise ValueError("offset is for cids: offset; with quic-lb the ID follows the first octet")
            if self.length > _MOST_LB_ID:
                raise ValueError(f"length {self.length} is too long for quic-lb: use at most {_MOST_LB_ID}")
        elif self.config_id is not None or self.encodes_length:
            name = "encodes_length" if self.config_id is None else "config_id"
            raise ValueError(f"{name} is for cids: quic-lb; with offset there is no such octet")
        elif self.begin + self.length > LONGEST_CID:
            raise ValueError(
                f"offset {self.begin} and length {self.length} end behind the {LONGEST_CID} octets of the "
                "longest connection ID"
            )
        return self

    @property
    def begin(self) -> int:
        """Offset of the ID in a connection ID."""
        return 1 if self.cids == "quic-lb" else self.offset or 0

    def id_of(self, address: Address, quic_id: str | None) -> bytes:
        """A backend's ID: its `quic_id`, or else the last octets of its address, behind zeros if it has fewer."""
        if quic_id is not None:
            return bytes.fromhex(quic_id)
        return address.packed[-self.length :].rjust(self.length, b"\0")

    def require_distinct(self, backends: Mapping[str, tuple[Address, str | None]]) -> None:
        """Raise ValueError unless each of these backends, with address and `quic_id`, has an ID of its own."""
        owners: dict[bytes, str] = {}
        for name, (address, quic_id) in backends.items():
            found = self.id_of(address, quic_id)
            if len(found) != self.length:
                raise ValueError(
                    f"backend '{name}' has the quic_id {quic_id} of {len(found)} octets, but the length of quic is "
                    f"{self.length}"
                )
            other = owners.setdefault(found, name)
            if other != name:
                raise ValueError(
                    f"backends '{other}' and '{name}' both have the QUIC ID {found.hex()}: give one of them "
                    "another quic_id, or raise the length of quic if the IDs are parts of addresses"
                )
