#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# stage.sh: runs in the guest after each boot. Client and backends are namespaces, each with a card of the machine.
# The backends are made by the package's own command, and serve.
set -eu

enter() {
    ip netns exec "$@"
}

host() { # NAME CARD NUMBER
    ip netns add "$1"
    ip link set "$2" netns "$1" name eth0
    enter "$1" ip link set lo up
    enter "$1" ip address add "192.0.2.$3/24" dev eth0
    enter "$1" ip link set eth0 up
}

backend() { # NAME CARD NUMBER
    host "$1" "$2" "$3"
    echo 192.0.2.10 >"/run/$1.conf"
    XDPDIRECTOR_BACKEND_CONF=/run/$1.conf XDPDIRECTOR_BACKEND_STATE=/run/$1.state enter "$1" xdpdirector-backend up
    systemd-run --quiet --unit="$1" --property=StandardOutput="file:/run/$1.json" \
        ip netns exec "$1" python3 /root/guest_agent.py serve "$1"
}

host client eth2 100
backend backend1 eth3 21
backend backend2 eth4 22
