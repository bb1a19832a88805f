# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# A director that sends to the least busy backend. One alone keeps the VIPs itself. Two leave the VIPs to keepalived, and
# have each other's connections (sync), so that a connection outlives the director it began with.
need curl
address6

read -ra directors <<<"$DIRECTORS"
vips=manage peers=()
for each in "${directors[@]}"; do
    [ "${each%=*}" = "$NAME" ] || peers+=("${each#*=}")
done
((${#peers[@]} == 0)) || vips=external

install_file /tmp/xdpdirector.deb
usermod --append --groups xdpdirector vagrant # may use the API's socket

{
    cat <<END
interfaces: [$(card)]
user: xdpdirector
vips: $vips
END
    if ((${#peers[@]})); then
        # The LAN is the machines' own: in the clear is good enough there.
        listed=$(printf '"%s:8651", ' "${peers[@]}")
        echo "sync: {name: $NAME, listen: \"$ADDRESS4:8651\", peers: [${listed%, }], insecure: true}"
    fi
    cat <<END
services:
  web:
    listeners: ["$VIP4:80/tcp", "[$VIP6]:80/tcp"]
    scheduler: wlc
    check: {type: http, path: /healthz, interval: 3s, timeout: 2s, rise: 2, fall: 2}
    backends:
END
    for each in $BACKENDS; do
        echo "      ${each%=*}: {address: ${each#*=}}"
    done
} >/etc/xdpdirector/director.yaml

systemctl --quiet enable xdpdirector
systemctl restart xdpdirector-load xdpdirector

# The daemon knows its VIPs, its card and its peers. The first director has the VIPs whenever it is ready.
configure_keepalived() {
    xdpdirector keepalived-config --priority "$([ "$NAME" = director ] && echo 250 || echo 240)" --advert "$ADVERT" \
        --patience "$GIVE_UP" >/etc/keepalived/keepalived.conf.new || return
    mv /etc/keepalived/keepalived.conf.new /etc/keepalived/keepalived.conf
}

if [ "$vips" = external ]; then
    need keepalived
    expect 'the daemon says what keepalived needs to know' configure_keepalived
    systemctl --quiet enable keepalived
    systemctl restart keepalived
fi
