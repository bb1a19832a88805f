#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Stands before each of the other scripts; Vagrant runs the two as one, as root. They may be run again at any time.
#
# From the Vagrantfile: NAME, ADDRESS4 and ADDRESS6 of this machine on the LAN; VIP4, VIP6; DIRECTORS and BACKENDS,
# each a list of NAME=ADDRESS; PATIENCE, the seconds that anything gets to become as it should be; of a pair ADVERT, the
# seconds between two advertisements of VRRP, and GIVE_UP, those that a director may be not ready before it gives way.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

say() { echo "$NAME: $*"; }

fail() {
    echo "$NAME: FAILED: $*" >&2
    exit 1
}

# expect TEXT COMMAND...: within PATIENCE the command succeeds; its last words when it does not.
expect() {
    local until=$((SECONDS + PATIENCE)) text=$1 words
    shift
    until words=$("$@" 2>&1); do
        ((SECONDS < until)) || fail "$text? After $PATIENCE s, '$*' says: $words"
        sleep 1
    done
    say "ok: $text"
}

# Prints the card on the LAN; what it is called is the box's affair.
card() {
    ip -o -4 address show to "$ADDRESS4" | awk '{ print $2; exit }'
}

# need PACKAGE...: Debian packages, where the box does not have them.
need() {
    local name missing=()
    for name; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    ((${#missing[@]} == 0)) && return
    say "installing ${missing[*]}"
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# install_file FILE: one of the project's packages, and what it depends on where the box does not have that.
install_file() {
    local log
    log=$(mktemp)
    say "installing $(dpkg-deb -f "$1" Package) $(dpkg-deb -f "$1" Version)"
    if ! dpkg --install --force-confold "$1" >"$log" 2>&1; then
        apt-get update -qq
        apt-get install -qq -y --no-install-recommends --fix-broken >>"$log" 2>&1 || fail "$(tail -n 20 "$log")"
    fi
    rm "$log"
}

# The LAN's IPv6 address, also after a reboot: Vagrant gives a card one address only.
address6() {
    local card drop
    card=$(card)
    [ -n "$card" ] || fail "no card has $ADDRESS4"
    if systemctl --quiet is-active systemd-networkd; then
        drop=/etc/systemd/network/50-vagrant-$card.network.d
        mkdir -p "$drop"
        printf '[Network]\nAddress=%s/64\n' "$ADDRESS6" >"$drop/address6.conf"
        networkctl reload
    else
        cat >/etc/network/if-up.d/address6 <<END
#!/bin/sh
[ "\$IFACE" != $card ] || ip -6 address replace $ADDRESS6/64 dev $card nodad
END
        chmod 755 /etc/network/if-up.d/address6
        IFACE=$card /etc/network/if-up.d/address6
    fi
}
