# SPDX-License-Identifier: Apache-2.0
"""This capture, this configuration, these backends. No network is touched: the packet program runs by itself."""

CAPTURE = "../captures/web.pcap"


def test_connections_are_shared_by_weight(xdp_replay):
    results = xdp_replay(CAPTURE)

    assert results.summary.opened == {("web", "web1"): 6, ("web", "web2"): 3}


def test_a_connection_stays_with_its_backend(xdp_replay):
    results = xdp_replay(CAPTURE)

    first = [decision.backend for decision in results.decisions[:4]]
    assert len(set(first)) == 1
    assert [decision.reason for decision in results.decisions[:4]] == [
        "forward_new",
        "forward_connection",
        "forward_connection",
        "forward_connection",
    ]


def test_what_is_for_nobody_is_left_to_the_host_and_what_is_broken_is_dropped(xdp_replay):
    results = xdp_replay(CAPTURE)

    assert [decision.reason for decision in results.decisions[-2:]] == [
        "pass_no_listener",
        "drop_malformed_tcp",
    ]


def test_everybody_goes_to_the_other_one_when_a_server_is_down(xdp_replay):
    results = xdp_replay(CAPTURE, down=["web/web1"])

    assert results.summary.opened == {("web", "web2"): 9}


def test_clients_are_told_when_all_servers_are_down(xdp_replay):
    results = xdp_replay(CAPTURE, down=["web/web1", "web/web2"])

    assert results.summary.verdicts["reject"] == 36
