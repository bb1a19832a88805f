# Of each FreeBSD backend, as root.
sysrc ifconfig_lo0_alias0="inet 192.0.2.10 netmask 255.255.255.255"
sysrc ifconfig_lo0_alias1="inet6 2001:db8::10 prefixlen 128"
service netif start lo0
