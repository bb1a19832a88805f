# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask of the API's doors: where it listens, who may come in, how much at once.

Knows no sockets, tokens or HTTP.
"""

from __future__ import annotations

from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, NamedTuple, Self

from pydantic import (
    AfterValidator,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import core_schema

from xdpdirector.model.fields import NUMBER, Flag, Frozen, key
from xdpdirector.model.listener import Address

ACCOUNT = r"^[a-z_][a-z0-9_-]{0,30}$"


class Role(StrEnum):
    """Who may do what: `read` looks, `operate` changes backends, `admin` changes everything else too."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def covers(self, wanted: Role) -> bool:
        """Each role may do all that the ones before it may."""
        order = list(Role)
        return order.index(self) >= order.index(wanted)


class Endpoint(NamedTuple):
    """A TCP address to listen on, written `127.0.0.1:8650` or `[::1]:8650`."""

    address: Address
    port: int

    @classmethod
    def parse(cls, text: object) -> Self:
        """ValueError when it is not such a thing; addresses only, no names."""
        if isinstance(text, cls):
            return text
        host, colon, port = str(text).rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        try:
            address = ip_address(host[1:-1] if bracketed else host)
        except ValueError:
            address = None
        right_form = address is not None and bracketed == (address.version == 6) and "%" not in host
        if not colon or not right_form or not port.isascii() or not port.isdigit():
            raise ValueError(f"'{text}' is no address to listen on: write 127.0.0.1:8650 or [::1]:8650")
        if not 1 <= int(port) <= 65535:
            raise ValueError(f"port {port} does not exist: use 1 to 65535")
        assert address is not None
        return cls(address, int(port))

    @property
    def is_loopback(self) -> bool:
        return self.address.is_loopback

    def __str__(self) -> str:
        host = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{host}:{self.port}"


EndpointField = Annotated[
    Endpoint,
    GetPydanticSchema(lambda _source, _handler: core_schema.no_info_plain_validator_function(Endpoint.parse)),
    PlainSerializer(str, return_type=str),
    WithJsonSchema(
        {
            "type": "string",
            "format": "endpoint",
            "pattern": r"^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]+$",
            "examples": ["127.0.0.1:8650", "[2001:db8::1]:8650"],
        }
    ),
]


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"'{path}' must be an absolute path: the daemon has no home to start from")
    return path


AbsolutePath = Annotated[
    Path, AfterValidator(_absolute), WithJsonSchema({"type": "string", "format": "path", "pattern": "^/"})
]


class TlsSpec(Frozen):
    """For every TCP address. With `client_ca` clients need a certificate of that authority, and a token still."""

    certificate: AbsolutePath = Field(
        description="PEM file of the certificate and its chain; read anew at SIGHUP."
    )
    key: AbsolutePath = Field(
        description="PEM file of its private key, which the daemon's user must be able to read."
    )
    client_ca: AbsolutePath | None = Field(
        default=None,
        description="PEM file of the authority of clients' certificates; without it clients need none.",
    )


class ApiSpec(Frozen):
    """The unix socket is always there, for its group; `listen` adds TCP addresses, for tokens only.

    `group`: who may use the unix socket; by default the daemon's own group. `role`: what those may do; root may do
    everything. `rate`: requests a second of one token, user or address; twice as many may come at once.
    """

    listen: Annotated[tuple[EndpointField, ...], Field(max_length=16)] = key(
        (),
        "TCP addresses to listen on beside the unix socket; clients there need a token, and TLS but on loopback.",
    )
    tls: TlsSpec | None = key(None, "Certificate and key for all TCP addresses.")
    group: Annotated[str, Field(pattern=ACCOUNT)] | None = key(
        None, "The group that may use the unix socket; by default that of the daemon."
    )
    role: Role = key(Role.ADMIN, "What members of that group may do; root may do everything.")
    rate: Annotated[int, Field(ge=1, le=100_000), NUMBER] = key(
        500, "How much one token, user or address may ask; twice as many at once.", "requests a second"
    )
    dashboard: Flag = key(True, "Whether the dashboard is there for browsers, at /ui/ of each address.")

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if len(set(self.listen)) != len(self.listen):
            raise ValueError("an address stands twice in listen: remove one")
        for endpoint in self.listen:
            if not endpoint.is_loopback and self.tls is None:
                raise ValueError(
                    f"listen has {endpoint}, which others can reach, and there is no TLS: give tls a certificate "
                    "and a key, or listen on 127.0.0.1 or [::1] only"
                )
        return self
