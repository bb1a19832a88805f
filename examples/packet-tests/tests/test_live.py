# SPDX-License-Identifier: Apache-2.0
"""Real clients, real servers, and a director between them, in network namespaces of this machine."""

import pytest

VISIT = ["curl", "--silent", "--fail", "--max-time", "5", "http://192.0.2.10/who"]


def answers(client, times):
    return {client.run(*VISIT).stdout.strip() for _ in range(times)}


def test_all_servers_answer(xdp_client, xdp_backends):
    assert answers(xdp_client, 6) == {backend.name for backend in xdp_backends}


def test_a_drained_server_gets_no_new_clients(xdp_director, xdp_client):
    xdp_director.client.post("/v1/services/web/backends/backend2/drain", {})

    assert answers(xdp_client, 6) == {"backend1", "backend3"}


@pytest.mark.xdpdirector
def test_the_director_outlives_its_daemon(xdp_director, xdp_client):
    xdp_director.kill()

    assert answers(xdp_client, 3)
