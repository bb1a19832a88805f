# SPDX-License-Identifier: Apache-2.0
"""A scrape of a running director: whatever rules and dashboard speak of is in it, and no client is."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from tests.support.lab_client import Conversation
from xdpdirector.client import backend_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

CONTRIB = Path(__file__).parents[2] / "contrib"
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@pytest.fixture(scope="module")
def scrape(lab: Lab, director: LabDirector) -> str:
    """While a client talks to a backend that is to be drained."""
    with Conversation(lab.client, VIP4) as conversation:
        path = backend_path(SERVICE, conversation.backend)
        director.client.post(f"{path}/drain", {"deadline": "1h"})
        text: str = director.client.get("/metrics")
        director.client.post(f"{path}/enable")
    return text


@pytest.fixture(scope="module")
def present(scrape: str) -> set[str]:
    """The names of all samples."""
    return {sample.name for family in text_string_to_metric_families(scrape) for sample in family.samples}


def spoken_of(expressions: Iterator[str]) -> set[str]:
    """Our metrics, and those of the process. Recorded series have a colon."""
    names = {name for expression in expressions for name in NAME.findall(expression) if ":" not in name}
    return {name for name in names if name.startswith(("xdpdirector_", "process_"))}


def of_rules() -> Iterator[str]:
    document = YAML(typ="safe").load(CONTRIB / "prometheus" / "xdpdirector.rules.yaml")
    for group in document["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


def of_dashboard() -> Iterator[str]:
    document = json.loads((CONTRIB / "grafana" / "xdpdirector.json").read_text())
    yield from (variable["query"]["query"] for variable in document["templating"]["list"][1:])
    yield from (annotation["expr"] for annotation in document["annotations"]["list"])
    for panel in document["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


@pytest.mark.parametrize("expressions", [of_rules, of_dashboard], ids=["rules", "dashboard"])
def test_every_metric_is_in_a_scrape(expressions: Callable[[], Iterator[str]], present: set[str]) -> None:
    wanted = spoken_of(expressions())

    assert wanted - present == set()
    assert len(wanted) > 10


def test_no_client_is_named(lab: Lab, scrape: str) -> None:
    assert str(lab.client.node.ipv4) not in scrape
    assert str(lab.client.node.ipv6) not in scrape
