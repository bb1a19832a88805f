# SPDX-License-Identifier: Apache-2.0
"""What the models are made of: the frozen base, names, durations, addresses, listeners.

Times are seconds (float) inside and accept `300ms`, `2s`, `5m`, `1h` or a number outside. Knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    GetPydanticSchema,
    PlainSerializer,
    Strict,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from xdpdirector.model.durations import DURATION, format_duration, parse_duration
from xdpdirector.model.listener import LISTENER, Address, Listener, unicast_address

_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema(
        {
            "type": ["string", "number"],
            "pattern": f"^{DURATION}$",
            "minimum": 0,
            "examples": ["300ms", "2s", "5m"],
        }
    ),
]


@dataclass(frozen=True)
class Between:
    """Bounds of a duration, in seconds, and what to say to who is outside."""

    least: float
    most: float
    rule: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """A text's bounds no schema can say, a number's it can."""
        return handler(schema) | {"minimum": self.least, "maximum": self.most}

    def _checked(self, seconds: float) -> float:
        if not self.least <= seconds <= self.most:
            raise ValueError(self.rule)
        return seconds


_DAY = 86400
Timeout = Annotated[Duration, Between(0.001, 31 * _DAY, "must be at least 1ms, and at most 31 days")]
DayAtMost = Annotated[Duration, Between(0.001, _DAY, "must be at least 1ms, and at most 24 hours")]


def _no_other(value: object) -> object:
    if isinstance(value, (bool, str)):
        raise PydanticKnownError("int_type")
    return value


def _no_other_real(value: object) -> object:
    if isinstance(value, (bool, str)):
        raise PydanticKnownError("float_type")
    return value


NUMBER = BeforeValidator(_no_other)
"""Behind an int's bounds: 2.0 is one, too, but no `true` or text that could be taken for one."""
REAL = BeforeValidator(_no_other_real)
"""The same behind a float's bounds."""
Flag = Annotated[bool, Strict()]
InterfaceName = Annotated[str, Field(pattern=r"^[!-.0-9;-~]{1,15}$")]
"""As the kernel's dev_valid_name() has it (net/core/dev.c), of ASCII: what is white space beyond ASCII differs
between the kernel, this schema's readers and Python."""
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
    WithJsonSchema(
        {
            "type": "string",
            "format": "listener",
            "pattern": f"^{LISTENER}$",
            "examples": ["192.0.2.10:80/tcp", "[2001:db8::10]:53/udp"],
        }
    ),
]


class ByName:
    """Marks a mapping whose keys are all names: its JSON Schema allows no others, which pydantic leaves out."""

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return handler(schema) | {"additionalProperties": False}


def key(default: Any, text: str, unit: str = "") -> Any:
    """A key of the configuration: what it is by default, what it means, and in what it is counted.

    Required ones are `Field(description=...)`: without a default.
    """
    return Field(default=default, description=text, json_schema_extra={"x-unit": unit} if unit else None)


class Frozen(BaseModel):
    """Unknown keys are errors; values cannot change. Validators are made when they are used first: most are used as
    parts of others' only, and each takes memory and time."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
