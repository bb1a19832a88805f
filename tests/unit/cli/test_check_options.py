# SPDX-License-Identifier: Apache-2.0
"""The check of a service on the command line, against the model that judges it."""

from typing import Any

import pytest
import typer
from pydantic import TypeAdapter

from xdpdirector.cli.check_options import OPTIONS, check_patch
from xdpdirector.model import ServiceSpec, merged
from xdpdirector.model.checks import CheckBase, CheckSpec

SPEC: TypeAdapter[CheckSpec] = TypeAdapter(CheckSpec)
MODELS = {
    model.model_fields["type"].annotation.__args__[0]: model  # type: ignore[union-attr]
    for model in CheckSpec.__origin__.__args__  # type: ignore[attr-defined]
}
NEEDED = {"dns": "www.example.org", "exec": "/usr/lib/check web 80"}


def test_every_type_and_option_is_known() -> None:
    of_all = set(CheckBase.model_fields) | {"type"}

    assert {kind: set(names) for kind, names in OPTIONS.items()} == {
        kind: set(model.model_fields) - of_all for kind, model in MODELS.items()
    }


@pytest.mark.parametrize("before", OPTIONS)
@pytest.mark.parametrize("after", OPTIONS)
def test_any_check_can_become_any_other(before: str, after: str) -> None:
    """Options of the one that the other does not have must go, or the model refuses them."""

    def words(kind: str) -> str:
        return f"{kind}:{NEEDED[kind]}" if kind in NEEDED else kind

    service = ServiceSpec.model_validate(
        {"listeners": ["192.0.2.10:80/tcp"], "check": _whole(check_patch(words(before), None))}
    )

    changed = ServiceSpec.model_validate(merged(service, {"check": check_patch(words(after), None, fall=5)}))

    assert changed.check is not None
    assert (changed.check.type, changed.check.fall) == (after, 5)


def test_options() -> None:
    options = ["status=[200,204]", "verify=true", "server_name=www.example.org", "via=address", "body=^ok$"]

    check = SPEC.validate_python(_whole(check_patch("https:/healthz", options, interval="5s")))

    assert check.type == "https"
    assert (check.path, check.status, check.verify, check.via) == ("/healthz", (200, 204), True, "address")
    assert check.interval == 5.0


def test_the_same_type_again_keeps_its_options() -> None:
    patch = check_patch("http", None, rise=3)

    assert patch is not None
    assert "path" not in patch


def test_options_alone_change_the_check_that_is_there() -> None:
    assert check_patch(None, ["path=/ready"], fall=5) == {"path": "/ready", "fall": 5}


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("smoke:1", None, "check 'smoke:1' is not known: write one of tcp, tls"),
        ("tcp:80", None, "check 'tcp:80' is not known"),
        ("none", ["path=/"], "--check none has no interval"),
        ("http", ["path"], "'path' is no option of a check"),
    ],
)
def test_what_is_not_understood(text: str, options: list[str] | None, words: str) -> None:
    with pytest.raises(typer.BadParameter, match=words.replace("(", r"\(")):
        check_patch(text, options)


def _whole(patch: dict[str, Any] | None) -> dict[str, Any]:
    assert patch is not None
    return {name: value for name, value in patch.items() if value is not None}
