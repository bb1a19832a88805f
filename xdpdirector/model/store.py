# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask of the place where the desired state is kept: this machine alone, or an etcd that
several directors share."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from xdpdirector.model.access import AbsolutePath, EndpointField
from xdpdirector.model.fields import Frozen, key

MOST_ENDPOINTS = 9


class EtcdTls(Frozen):
    """TLS with etcd. `ca` signs etcd's certificate, which must name the address of the endpoint. Certificate and
    key are this director's, where etcd asks for them."""

    ca: AbsolutePath = Field(description="PEM file of the authority of etcd's certificates.")
    certificate: AbsolutePath | None = key(None, "PEM file of this director's certificate for etcd.")
    key: AbsolutePath | None = key(None, "PEM file of its private key.")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: say both, or none")
        return self


class StoreSpec(Frozen):
    """Where services and drains are kept. `sqlite`: on this machine. `etcd`: in an etcd, for all directors that
    have the same `prefix` there: one desired state, which each of them may change."""

    type: Literal["sqlite", "etcd"] = key(
        "sqlite", "A file on this machine, or an etcd for several directors."
    )
    endpoints: Annotated[tuple[EndpointField, ...], Field(max_length=MOST_ENDPOINTS)] = key(
        (), "The members of etcd, by their client addresses."
    )
    prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._-]{1,63}){1,8}$")] = key(
        "/xdpdirector/default", "Where the keys of this fleet begin; all of its directors have the same."
    )
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")] | None = key(
        None, "What the others call this director; by default `sync.name`, or its host name."
    )
    tls: EtcdTls | None = key(None, "Certificates; without them only loopback addresses will do.")
    user: Annotated[str, Field(min_length=1, max_length=255)] | None = key(
        None, "Who this director is to etcd, where etcd asks for a password."
    )
    password_file: AbsolutePath | None = key(None, "A file that holds the password, on one line.")
    insecure: bool = key(
        False, "Whether the desired state travels in the clear, and whoever reaches etcd may change it."
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.type == "sqlite":
            fields = type(self).model_fields
            said = [name for name in fields if getattr(self, name) != fields[name].default]
            if said:
                raise ValueError(f"{said[0]} is for `type: etcd`: say that, or leave {said[0]} out")
            return self
        if not self.endpoints:
            raise ValueError("etcd needs endpoints, such as 192.0.2.5:2379")
        if len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError("an endpoint stands twice in endpoints")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file belong together: say both, or none")
        exposed = [each for each in self.endpoints if not each.is_loopback]
        if exposed and self.tls is None and not self.insecure:
            raise ValueError(
                f"{exposed[0]} is no loopback address: say `tls`, or `insecure: true` where nobody else can "
                "reach it"
            )
        return self

    @property
    def is_shared(self) -> bool:
        """Whether other directors may change what is kept there."""
        return self.type == "etcd"
