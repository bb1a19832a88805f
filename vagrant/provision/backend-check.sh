# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# Whether this machine is a backend.
is_me() { [ "$(curl -s -g --max-time 5 "http://$1/")" = "$NAME" ]; }

within 30 'the VIPs are on the loopback, and ARP for them is not answered' xdpdirector-backend status
within 30 "the web server says who it is at $ADDRESS4" is_me "$ADDRESS4"
within 10 'and at the VIP' is_me "$VIP4"
within 10 'and at the IPv6 VIP' is_me "[$VIP6]"
say 'all is well'
