# Of each Windows backend, in PowerShell as administrator.
# Device Manager: Action, Add legacy hardware, Network adapters, Microsoft: "Microsoft KM-TEST Loopback Adapter".
Rename-NetAdapter -InterfaceDescription 'Microsoft KM-TEST Loopback Adapter' -NewName loopback
New-NetIPAddress -InterfaceAlias loopback -IPAddress 192.0.2.10 -PrefixLength 32 -SkipAsSource $true
New-NetIPAddress -InterfaceAlias loopback -IPAddress 2001:db8::10 -PrefixLength 128 -SkipAsSource $true
Set-NetIPInterface -InterfaceAlias loopback -InterfaceMetric 254
Set-DnsClient -InterfaceAlias loopback -RegisterThisConnectionsAddress $false
foreach ($name in 'Ethernet', 'loopback') {
    Set-NetIPInterface -InterfaceAlias $name -WeakHostReceive Enabled -WeakHostSend Enabled
}
Disable-NetAdapterBinding -InterfaceAlias loopback -ComponentID ms_msclient, ms_server, ms_lltdio, ms_rspndr
