# SPDX-License-Identifier: Apache-2.0
"""The reference of the configuration file is whole, and is that of the model."""

import pytest

from dev import config_reference
from xdpdirector.model import Configuration, ServiceSpec


def test_what_stands_in_the_checkout_is_not_stale() -> None:
    assert config_reference.MARKDOWN.read_text() == config_reference.markdown(), "run ./lab reference"
    assert config_reference.MANUAL.read_text() == config_reference.manual(), "run ./lab reference"


@pytest.mark.parametrize(
    "section", config_reference.sections(), ids=lambda section: section.path or "the file"
)
def test_every_key_says_what_it_is(section: config_reference.Section) -> None:
    assert section.text
    for key in section.keys:
        assert key.text.endswith("."), f"{section.path}.{key.name}: give it a description in the model"
        assert key.kind
        assert key.default


def keys(path: str) -> dict[str, config_reference.Key]:
    return {
        key.name: key
        for section in config_reference.sections()
        if section.path == path
        for key in section.keys
    }


def test_all_keys_are_there() -> None:
    assert list(keys("")) == list(Configuration.model_fields)
    assert list(keys("services.NAME")) == list(ServiceSpec.model_fields)


@pytest.mark.parametrize(
    ("path", "name", "kind", "default"),
    [
        ("", "interfaces", "list of: text, 16 at most", "required"),
        ("", "mode", "`auto`, `native`, `generic`", "`auto`"),
        ("", "services", "names, with keys below", "none"),
        ("services.NAME", "slow_start", "duration, 1ms to 31d", "none"),
        ("services.NAME.backends.NAME", "address", "IPv4 or IPv6 address", "required"),
        ("services.NAME.backends.NAME", "max_connections", "number, 1 to 2,147,483,647; connections", "none"),
        ("services.NAME.check", "interval", "duration, 1ms to 31d", "`2s`"),
        ("services.NAME.check, type: http", "status", "list of: number, 100 to 599", "`[200]`"),
        ("services.NAME.check, type: agent", "via", "`vip`, `address`", "`address`"),
        ("services.NAME.limit", "rate", "rate", "none"),
        ("guard.deny[]", "prefix", "prefix, like `203.0.113.0/24`, or address", "required"),
        ("api", "listen", "list of: `ADDRESS:PORT`, 16 at most", "none"),
        ("lan", "probe", "`true`, `false`", "`true`"),
    ],
)
def test_type_unit_and_default_are_those_of_the_model(path: str, name: str, kind: str, default: str) -> None:
    key = keys(path)[name]

    assert (key.kind, key.default) == (kind, default)


def test_the_manual_page_has_no_line_that_is_a_command_by_mistake() -> None:
    macros = {
        line.split()[0] for line in config_reference.manual().splitlines() if line.startswith((".", "'"))
    }

    assert macros <= {'.\\"', ".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".BR", ".I", ".RB", ".nf", ".fi"}
