# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# Whether this machine is a director. That backends answer through it is the client's affair to see.
api() { curl -sS -f --max-time 10 --unix-socket /run/xdpdirector/default/api.sock "http://director$1"; }

# Prints how the LAN's card carries the packet program: native or generic.
mode() {
    api /v1/dataplane |
        python3 -c 'import json, sys; print(*(each["mode"] for each in json.load(sys.stdin)["carriers"]))' | grep .
}

# Where the kernel or systemd refuses the checks' namespace, they ask the backends' own addresses.
checks_ask_for_vips() {
    local ready
    ready=$(api /readyz) && ! grep -F 'do not see whether a server has its VIP' <<<"$ready"
}

has_vip() { [ -n "$(ip address show dev "$(card)" to "$1")" ]; }

expect 'the daemon runs' systemctl is-active xdpdirector
expect 'it is ready: the maps hold what is configured' api /readyz
expect 'the packet program is attached' mode
expect 'checks ask for the VIPs on the backends' checks_ask_for_vips
if [ "$(mode)" = native ]; then
    say "ok: native mode, on the driver $(basename "$(readlink "/sys/class/net/$(card)/device/driver")")"
else
    say 'ok, but slower: generic mode; README.md says why that may be'
fi
if [[ $DIRECTORS == *\ * ]]; then
    say "keepalived: this director $(has_vip "$VIP4" && echo has || echo 'does not have') the VIPs"
    expect 'keepalived runs' systemctl is-active keepalived
    expect 'and hears in time that the director is ready' timeout 3 xdpdirector status --ready
else
    expect "the VIP $VIP4 is here" has_vip "$VIP4"
    expect "the VIP $VIP6 is here" has_vip "$VIP6"
fi
say 'all is well'
