# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask of connection sync: where it listens, who the peers are, how they prove it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from xdpdirector.model.access import AbsolutePath, EndpointField
from xdpdirector.model.fields import NUMBER, Frozen, key

MOST_PEERS = 15


class SyncTls(Frozen):
    """Mutual TLS: each director proves by a certificate of `ca` that it is one. That authority should sign nothing
    else."""

    certificate: AbsolutePath = Field(
        description="PEM file of this director's certificate; read anew when it changes."
    )
    key: AbsolutePath = Field(description="PEM file of its private key.")
    ca: AbsolutePath = Field(
        description="PEM file of the authority of all directors' certificates, and of nobody else's."
    )


class SyncSpec(Frozen):
    """Directors that hold each other's connections. `listen` is what the peers have in their `peers`."""

    listen: EndpointField = Field(description="Where peers send their connections to.")
    peers: Annotated[tuple[EndpointField, ...], Field(min_length=1, max_length=MOST_PEERS)] = Field(
        description="The other directors, by the addresses that they listen on."
    )
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] | None = key(
        None, "What the others call this director; by default its host name."
    )
    fleet: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] = key(
        "default", "A name that all directors have in common; others are refused."
    )
    tls: SyncTls | None = key(
        None, "Certificates of the directors; without them only loopback addresses will do."
    )
    insecure: bool = key(
        False,
        "Whether connections travel in the clear, and whoever reaches `listen` may say what runs where.",
    )
    patience: Annotated[float, Field(ge=0, le=600), NUMBER] = key(
        10.0,
        "How long a director that starts waits for its peers' connections before it is ready.",
        "seconds",
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.listen in self.peers:
            raise ValueError(f"{self.listen} is this director itself: leave it out of the peers")
        if len(set(self.peers)) != len(self.peers):
            raise ValueError("a peer stands twice in peers")
        exposed = [each for each in (self.listen, *self.peers) if not each.is_loopback]
        if exposed and self.tls is None and not self.insecure:
            raise ValueError(
                f"{exposed[0]} is no loopback address: say `tls`, or `insecure: true` where nobody else can "
                "reach it"
            )
        return self
