# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# A backend: a web server that says who it is, and has the VIPs where nobody on the LAN hears of them.
need nginx-light curl
address6

install_file /tmp/xdpdirector-backend.deb
printf '%s\n' "$VIP4" "$VIP6" >/etc/xdpdirector/backend.conf
systemctl --quiet enable xdpdirector-backend
systemctl restart xdpdirector-backend

cat >/etc/nginx/sites-available/who <<END
server {
    listen 80 default_server;
    listen [::]:80 default_server;
    access_log off;
    default_type text/plain;
    location = /healthz { return 200 "ok\n"; }
    location = /big { root /srv; }
    location / { return 200 "$NAME\n"; }
}
END
truncate -s 48M /srv/big # for a long download
rm -f /etc/nginx/sites-enabled/default
ln -sf ../sites-available/who /etc/nginx/sites-enabled/who
systemctl --quiet enable nginx
systemctl restart nginx
