# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# A director. One alone keeps the VIPs itself and sends to the least busy backend. Two leave the VIPs to keepalived,
# and agree by hashing (mh) where a connection belongs, so that it outlives the director it began with.
need curl
address6

read -ra directors <<<"$DIRECTORS"
vips=manage scheduler=wlc
((${#directors[@]} == 1)) || vips=external scheduler=mh

install_file /tmp/xdpdirector.deb
usermod --append --groups xdpdirector vagrant # may use the API's socket

{
    cat <<END
interfaces: [$(card)]
user: xdpdirector
vips: $vips
services:
  web:
    listeners: ["$VIP4:80/tcp", "[$VIP6]:80/tcp"]
    scheduler: $scheduler
    check: {type: http, path: /healthz, interval: 3s, timeout: 2s, rise: 2, fall: 2}
    backends:
END
    for each in $BACKENDS; do
        echo "      ${each%=*}: {address: ${each#*=}}"
    done
} >/etc/xdpdirector/director.yaml

if [ "$vips" = external ]; then
    need keepalived
    peers=$(for each in "${directors[@]}"; do [ "${each%=*}" = "$NAME" ] || echo "${each#*=}"; done)
    cat >/etc/keepalived/keepalived.conf <<END
vrrp_instance vips {
    state BACKUP
    nopreempt
    interface $(card)
    virtual_router_id 10
    priority $([ "$NAME" = director ] && echo 150 || echo 100)
    advert_int 1
    unicast_src_ip $ADDRESS4
    unicast_peer { $peers }
    virtual_ipaddress { $VIP4/32 dev $(card) }
    virtual_ipaddress_excluded { $VIP6/128 dev $(card) }
}
END
    systemctl --quiet enable keepalived
    systemctl restart keepalived
fi

systemctl --quiet enable xdpdirector
systemctl restart xdpdirector-load xdpdirector
