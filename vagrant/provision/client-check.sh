# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# Whether the whole lab works: every backend answers through both VIPs, and only a director answers for a VIP.
answer() { curl -sS -g --max-time 10 "http://$1/"; }

# everyone VIP: a few requests for each backend, and every one of them is heard of.
everyone() {
    local heard=() each
    for each in $BACKENDS $BACKENDS $BACKENDS; do
        heard+=("$(answer "$1")") || return 1
    done
    for each in $BACKENDS; do
        [[ " ${heard[*]} " == *" ${each%=*} "* ]] || { echo "answers came from: ${heard[*]}" && return 1; }
    done
}

mac() { ip neigh show "$1" | awk '{ for (i = 1; i < NF; i++) if ($i == "lladdr") print $(i + 1) }'; }

directed() {
    local each vip macs=()
    vip=$(mac "$1")
    for each in $DIRECTORS; do
        ping -c 1 -W 5 "${each#*=}" >/dev/null || true
        macs+=("$(mac "${each#*=}")")
    done
    echo "$1 has $vip, and the directors have ${macs[*]}"
    [ -n "$vip" ] && [[ " ${macs[*]} " == *" $vip "* ]]
}

say "waiting for the director and for: $BACKENDS"
expect "somebody answers at $VIP4" answer "$VIP4"
expect "every backend answers at $VIP4" everyone "$VIP4"
expect "every backend answers at $VIP6" everyone "[$VIP6]"
expect "the VIP is a director's" directed "$VIP4"
say 'all is well'
