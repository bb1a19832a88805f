# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# Whether this machine is a backend.
is_me() {
    local who
    who=$(curl -sS -g --max-time 10 "http://$1/")
    echo "it is $who"
    [ "$who" = "$NAME" ]
}

expect 'the VIPs are on the loopback, and ARP for them is not answered' xdpdirector-backend status
expect "the web server says who it is at $ADDRESS4" is_me "$ADDRESS4"
expect 'and at the VIP' is_me "$VIP4"
expect 'and at the IPv6 VIP' is_me "[$VIP6]"
say 'all is well'
