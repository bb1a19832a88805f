# SPDX-License-Identifier: Apache-2.0
"""What an operator may ask of a health check: one model for each type. Knows no sockets and no services."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from xdpdirector.durations import format_duration
from xdpdirector.fields import Frozen, Timeout


class CheckBase(Frozen):
    """Fields that every health check has. `interval` runs from start to start, `timeout` bounds one try."""

    interval: Timeout = 2.0
    timeout: Timeout = 1.0
    rise: Annotated[int, Field(ge=1, le=100)] = 2
    fall: Annotated[int, Field(ge=1, le=100)] = 3
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    via: Literal["address"] = "address"

    @model_validator(mode="after")
    def _timeout_fits(self) -> Self:
        if self.timeout > self.interval:
            raise ValueError(
                f"timeout {format_duration(self.timeout)} is longer than interval "
                f"{format_duration(self.interval)}: make it shorter, or the interval longer"
            )
        return self


class TcpCheck(CheckBase):
    """Healthy when a TCP connection to the port opens in time."""

    type: Literal["tcp"]


class HttpCheck(CheckBase):
    """Healthy when GET `path` answers with a status in `status` in time."""

    type: Literal["http"]
    path: Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=1024)] = "/"
    host: Annotated[str, Field(pattern=r"^[!-~]+$", max_length=255)] | None = None
    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], Field(min_length=1)] = (200,)


CheckSpec = Annotated[TcpCheck | HttpCheck, Field(discriminator="type")]
