# SPDX-License-Identifier: Apache-2.0
"""An operator's day through the client that openapi-python-client makes; test_openapi_tools.py runs it.

Run by the Python that has that client's needs, with the client in its path: URL and token are its arguments.
"""

from __future__ import annotations

import sys
from typing import Any

from xdp_director_client import AuthenticatedClient
from xdp_director_client.api.backends import (
    create_backend,
    delete_backend,
    drain_backend,
    get_backend,
    list_backends,
    put_backend,
)
from xdp_director_client.api.configuration import (
    get_configuration,
    list_revisions,
    replace_configuration,
    roll_back,
)
from xdp_director_client.api.events import follow_events
from xdp_director_client.api.explain import explain
from xdp_director_client.api.guard import list_denied, replace_denied
from xdp_director_client.api.services import create_service, delete_service, get_service, replace_service
from xdp_director_client.models import (
    BackendCreate,
    BackendPut,
    Configuration,
    DenyList,
    DrainChange,
    Plan,
    Problem,
    Question,
    Reason,
    ServiceCreate,
    ServicePut,
    ServiceView,
)

WEB = {
    "name": "web",
    "listeners": ["192.0.2.10:80/tcp"],
    "scheduler": "wrr",
    "persistence": {"timeout": "5m"},
    "check": {"type": "http", "path": "/healthz", "status": [200]},
    "timeouts": {"tcp": "90s"},
    "limit": {"rate": "100/s"},
    "backends": {"web1": {"address": "192.0.2.21"}, "web2": {"address": "192.0.2.22", "weight": 3}},
}


def main(url: str, token: str) -> None:
    client = AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True)
    _create(client)
    _conditions(client)
    _drain(client)
    _whole(client)
    _lists(client)
    _questions(client)


def _create(client: AuthenticatedClient) -> None:
    made = create_service.sync_detailed(client=client, body=ServiceCreate.from_dict(WEB))
    assert made.status_code == 201, made.content
    assert made.headers["location"] == "/v1/services/web"
    assert [backend.name for backend in made.parsed.backends] == ["web1", "web2"]
    again = create_service.sync_detailed(client=client, body=ServiceCreate.from_dict(WEB))
    assert again.status_code == 409
    assert isinstance(again.parsed, Problem)
    tried = create_backend.sync(
        "web",
        client=client,
        body=BackendCreate.from_dict({"name": "web4", "address": "192.0.2.24"}),
        dry_run=True,
    )
    assert isinstance(tried, Plan)
    assert [change.pointer for change in tried.changes] == ["/services/web/backends/web4"]


def _conditions(client: AuthenticatedClient) -> None:
    shown = get_service.sync_detailed("web", client=client)
    tag = shown.headers["etag"]
    same = ServicePut.from_dict(shown.parsed.to_dict())
    put = replace_service.sync_detailed("web", client=client, body=same, if_match=tag)
    assert (put.status_code, put.headers["etag"]) == (200, tag), put.content
    assert isinstance(put.parsed, ServiceView)
    other = BackendPut.from_dict({"address": "192.0.2.23"})
    assert (
        put_backend.sync_detailed("web", "web3", client=client, body=other, if_none_match="*").status_code
        == 201
    )
    stale = replace_service.sync_detailed("web", client=client, body=same, if_match=tag)
    assert stale.status_code == 412
    assert stale.parsed.type_ == "urn:xdpdirector:problem:stale"


def _drain(client: AuthenticatedClient) -> None:
    drained = drain_backend.sync(
        "web", "web1", client=client, body=DrainChange.from_dict({"reason": "new kernel", "deadline": "10m"})
    )
    assert drained.drain.reason == "new kernel"
    waited = get_backend.sync("web", "web1", client=client, wait="drained", timeout="5s")
    assert waited.operational == "drained"
    assert delete_backend.sync_detailed("web", "web1", client=client).status_code == 204
    assert get_backend.sync_detailed("web", "web1", client=client).status_code == 404


def _whole(client: AuthenticatedClient) -> None:
    """What is GET and PUT through the generated model is what it was."""
    shown = get_configuration.sync_detailed(client=client)
    said = shown.parsed.to_dict()
    assert list(said["services"]) == ["web"]
    assert _without_nulls(said) == _without_nulls(_json(shown))
    plan = replace_configuration.sync(client=client, body=Configuration.from_dict(said), dry_run=True)
    assert (plan.dry_run, plan.changes) == (True, [])
    said["services"]["web"]["scheduler"] = "rr"
    plan = replace_configuration.sync(
        client=client, body=Configuration.from_dict(said), if_match=shown.headers["etag"]
    )
    assert [(change.pointer, change.after) for change in plan.changes] == [("/services/web/scheduler", "rr")]
    why = Reason.from_dict({"reason": "it was better"})
    assert roll_back.sync(plan.revision - 1, client=client, body=why).changes[0].after == "wrr"


def _lists(client: AuthenticatedClient) -> None:
    seen, cursor = [], None
    while True:
        page = list_revisions.sync(client=client, limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [item.revision for item in page.items]
        cursor = page.next_
        if not cursor:
            break
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 1
    assert len(list_backends.sync("web", client=client).items) == 2
    denied = list_denied.sync(client=client).to_dict()
    assert replace_denied.sync_detailed(client=client, body=DenyList.from_dict(denied)).status_code == 200


def _questions(client: AuthenticatedClient) -> None:
    question = Question.from_dict(
        {"client": "198.51.100.7", "client_port": 40000, "vip": "192.0.2.10", "port": 80, "protocol": "tcp"}
    )
    assert explain.sync(client=client, body=question).to_dict()["verdict"]
    told = follow_events.sync_detailed(client=client, follow=False, last=100)
    assert b"event: service.created" in told.content
    assert delete_service.sync_detailed("web", client=client).status_code == 204


def _json(answer: Any) -> Any:
    import json

    return json.loads(answer.content)


def _without_nulls(value: Any) -> Any:
    """A field that is left out, and one that is null, say the same."""
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


main(*sys.argv[1:])
