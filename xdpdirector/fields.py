# SPDX-License-Identifier: Apache-2.0
"""What the models are made of: the frozen base, names, durations, addresses, listeners.

Times are seconds (float) inside and accept `300ms`, `2s`, `5m`, `1h` or a number outside. Knows no model.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import core_schema

from xdpdirector.durations import format_duration, parse_duration
from xdpdirector.listener import Address, Listener, unicast_address

_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)?$",
            "minimum": 0,
            "examples": ["300ms", "2s", "5m"],
        }
    ),
]


def _positive(seconds: float) -> float:
    if seconds < 0.001:
        raise ValueError("must be at least 1ms")
    if seconds > 31 * 86400:
        raise ValueError("must be at most 31 days")
    return seconds


def _a_day_at_most(seconds: float) -> float:
    if seconds > 86400:
        raise ValueError("must be at most 24 hours")
    return seconds


Timeout = Annotated[Duration, AfterValidator(_positive)]
DayAtMost = Annotated[Timeout, AfterValidator(_a_day_at_most)]
Name = Annotated[str, Field(pattern=_NAME, max_length=63)]


HostAddress = Annotated[
    Address,
    BeforeValidator(unicast_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]

ListenerField = Annotated[
    Listener,
    GetPydanticSchema(lambda _source, _handler: core_schema.no_info_plain_validator_function(Listener.parse)),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["192.0.2.10:80/tcp", "[2001:db8::10]:53/udp"]}),
]


class Frozen(BaseModel):
    """Unknown keys are errors; values cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid")
