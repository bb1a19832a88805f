# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2034,SC2154
# Sourced by ./lab, at the top of the checkout: installs what is missing (Debian packages, a virtual environment in .venv),
# shows that it goes on, and repairs what a killed run left. Does not know what the verbs do.
# Uses say, die, $here and $verb of ./lab. The entry, ensure, is the last function.

# Package names. A|B: the first of them that the release has, for a package whose name differs between releases.
readonly packages=(
    python3 python3-venv python3-bpfcc linux-libc-dev 'libpcap0.8t64|libpcap0.8' # the director
    iproute2 ethtool procps nginx curl iputils-ping openssl   # the lab, its demo and tests
    iperf3 vsftpd strace keepalived bird2                    # tests, and ./lab pair
    ca-certificates                                   # pip
)
readonly services_packages=( # ./lab services and ./lab test, besides the above
    postfix swaks libnet-ssleay-perl libio-socket-inet6-perl dovecot-core dovecot-imapd dovecot-pop3d slapd ldap-utils
    postgresql-common postgresql postgresql-client mariadb-server-core mariadb-client-core
    ldirectord lftp nsd bind9-dnsutils openssh-server openssh-client util-linux tcpdump
    apt-utils gpg gpg-agent                           # the tests of an APT repository
    etcd-server # of a fleet of directors
    frr         # beside bird2
    fdisk e2fsprogs dosfstools # the disks of the install CD
)
readonly browser_packages=(chromium fonts-dejavu-core) # ./lab test --all, besides; ./lab slides
readonly vm_packages=(qemu-system-x86 mmdebstrap e2fsprogs openssh-client util-linux) # ./lab vm, besides the above
readonly arm64_packages=(qemu-system-arm 'qemu-user-static|qemu-user') # ./lab vm --arch arm64, besides
readonly build_packages=(debhelper dpkg-dev lintian apt-utils gpg gpg-agent) # ./lab package, besides
readonly iso_packages=(mmdebstrap squashfs-tools xorriso mtools grub-common grub-pc-bin grub-efi-amd64-bin git util-linux) # ./lab iso, besides
readonly vagrant_packages=( # ./lab vagrant; not libvirt-daemon-system, which would start libvirt on this machine
    vagrant vagrant-libvirt libvirt-daemon libvirt-clients qemu-utils dnsmasq-base iptables grub-common grub-pc-bin fdisk
)
readonly lint_packages=(python3 python3-venv ca-certificates)
readonly -A servers=( # what a package would start, by its name
    [nginx]=nginx [vsftpd]=vsftpd [keepalived]=keepalived [bird2]=bird [postfix]=postfix [dovecot-core]=dovecot [slapd]=slapd [nsd]=nsd [openssh-server]=ssh
    [postgresql-common]=postgresql [ldirectord]=ldirectord [etcd-server]=etcd [frr]=frr
)

readonly log=.lab/install.log
readonly stamp=.venv/.lab-stamp
readonly policy=/usr/sbin/policy-rc.d
readonly policy_mark='put here by the lab script of XDP Director'
readonly patience=120 # seconds to wait for another apt or dpkg

child= # the process group that is installing

# step TITLE COMMAND...: run COMMAND with its output in the log, and show that it goes on. A terminal gets a line that moves.
step() {
    local title=$1 status=0 started=$SECONDS
    shift
    printf '\n== %s\n' "$title" >>"$log"
    set -m # a process group of its own, so that an interrupt can end all of it
    "$@" >>"$log" 2>&1 </dev/null &
    child=$!
    set +m
    if [ -t 2 ]; then spin "$title" "$started"; else say "$title ..."; fi
    wait "$child" || status=$?
    child=
    [ "$status" = 0 ] || failed "$title"
    say "$title: $((SECONDS - started)) s"
}

spin() {
    local title=$1 started=$2 turn=0 line last width wheel='-oO0Oo'
    width=$(tput cols 2>/dev/null) || width=80
    while kill -0 "$child" 2>/dev/null; do
        last=$(tail -n 1 "$log" | tr -cd '[:print:]')
        line="lab: ${wheel:turn++ % 6:1} $title, $((SECONDS - started)) s  $last"
        printf '\r\033[K%s' "${line:0:width-1}" >&2
        sleep 0.2
    done
    printf '\r\033[K' >&2
}

# failed TITLE: end with what the log says last, and the likely remedy.
failed() {
    local remedy='Put that right'
    if tail -n 40 "$log" | grep -qiE 'resolv|unreachable|timed out|failed to (connect|establish)|could not connect'; then
        remedy="This machine seems to have no way to Debian's or Python's package servers: give it one, or a proxy in http_proxy"
    fi
    tail -n 15 "$log" | sed 's/^/  | /' >&2
    die 1 "could not finish: $1. Above are the last lines of $here/$log. $(foreign)$remedy; then run ./lab $verb again."
}

interrupted() {
    trap '' INT TERM HUP
    if [ -n "$child" ]; then
        kill -TERM -- "-$child" 2>/dev/null || true
        wait "$child" || true
    fi
    printf '\n' >&2
    die 130 "interrupted; the next run repairs what is half installed"
}

# Says what is unusual about this machine, or nothing.
foreign() {
    local system
    # shellcheck source=/dev/null
    system=$(. /etc/os-release 2>/dev/null && echo "$ID ${VERSION_ID-}") || system='another system'
    case $system in
        'debian 12' | 'debian 13') ;;
        *) printf 'It is tested on Debian 12 and 13, and this is %s. ' "$system" ;;
    esac
}

# Prints those of the named packages that are not wholly installed; of A|B either will do.
missing() {
    local name installed alternatives
    installed=$(dpkg-query -W -f '${db:Status-Status}:${Package} ' "${@//|*/}" "${@//*|/}" 2>/dev/null) || true
    for name; do
        IFS='|' read -ra alternatives <<<"$name"
        [[ " $installed" == *" installed:${alternatives[0]} "* || " $installed" == *" installed:${alternatives[-1]} "* ]] ||
            echo "$name"
    done
}

# available NAME...: the same names, of A|B the first one that this release has.
available() {
    local name alternatives
    for name; do
        IFS='|' read -ra alternatives <<<"$name"
        for name in "${alternatives[@]}"; do
            ! apt-cache policy "$name" 2>/dev/null | grep -q 'Candidate: [^(]' || break
        done
        echo "$name"
    done
}

# hold_servers NAME...: while we install these, Debian must not start them on this machine's ports, for the lab runs its own in
# namespaces. Servers that are there already are left alone.
hold_servers() {
    local before=()
    (($# != 0)) || return 0
    if holds_servers; then
        read -ra before < <(held_servers)
        set -- "${before[@]}" "$@"
        release_policy
    fi
    rm -f "$policy.before-lab"
    [ ! -e "$policy" ] || cp -p "$policy" "$policy.before-lab"
    cat >"$policy.new" <<END
#!/bin/sh
# $policy_mark while it installs servers, which must not be started; removed afterwards
# servers: $*
case " $* " in *" \${1%.service} "*) exit 101 ;; esac
[ ! -x $policy.before-lab ] || exec $policy.before-lab "\$@"
END
    chmod 755 "$policy.new"
    mv "$policy.new" "$policy"
}

holds_servers() {
    [ -r "$policy" ] && grep -q "$policy_mark" "$policy"
}

held_servers() {
    sed -n 's/^# servers: //p' "$policy"
}

# Undoes hold_servers, also one of a run that was killed, and keeps the servers from starting at the next boot.
release_servers() {
    local server
    holds_servers || return 0
    for server in $(held_servers); do
        deb-systemd-helper disable "$server.service" >/dev/null 2>&1 || true
        update-rc.d "$server" disable >/dev/null 2>&1 || true
    done
    release_policy
}

release_policy() {
    if [ -e "$policy.before-lab" ]; then
        mv "$policy.before-lab" "$policy"
    else
        rm "$policy"
    fi
}

# patiently COMMAND...: again while it fails because another apt or dpkg holds a lock.
patiently() {
    local output until=$((SECONDS + patience))
    while true; do
        output=$("$@" 2>&1) && break
        printf '%s\n' "$output"
        [[ $output == *lock* ]] && [ "$SECONDS" -lt "$until" ] || return 1
        sleep 2
    done
    printf '%s\n' "$output"
}

install_packages() {
    local names=("$@") lacking_servers=() name
    local -x DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    command -v apt-get >/dev/null ||
        die 1 "this machine lacks what the lab needs, and apt-get to install it. $(foreign)Looked for apt-get, dpkg-query and the packages\
 ${names[*]}. Use a Debian 12 or 13 machine, virtual machine or container."
    [ -z "$(foreign)" ] || say "$(foreign)Trying all the same."
    trap release_servers EXIT
    for name in "${!servers[@]}"; do
        [[ " ${names[*]} " != *" $name "* ]] || lacking_servers+=("${servers[$name]}")
    done
    hold_servers "${lacking_servers[@]}"
    step 'looking for half-installed packages' patiently dpkg --configure -a
    step "reading Debian's package lists" patiently apt-get update -q
    mapfile -t names < <(available "${names[@]}")
    step "installing ${#names[@]} Debian packages" \
        apt-get install -q -y --fix-broken --no-install-recommends --no-remove -o DPkg::Lock::Timeout=$patience \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "${names[@]}"
    release_servers
    trap - EXIT
}

# What .venv was made from; another text means that it is stale. The path counts: a virtual environment cannot be moved.
fingerprint() {
    { echo "$here $(readlink -f /usr/bin/python3) ${packages[*]}" && cat pyproject.toml; } | sha256sum
}

fresh() {
    [ -f "$stamp" ] && [ "$(<"$stamp")" = "$(fingerprint)" ]
}

# Always made anew, never mended: what a killed pip leaves behind cannot be told from what is whole. The stamp comes last.
make_environment() {
    local pip=(.venv/bin/python -m pip install --no-input --disable-pip-version-check) requires
    step 'making the virtual environment .venv' make_venv
    mapfile -t requires < <(.venv/bin/python -c 'import sys, tomllib
print(*tomllib.load(sys.stdin.buffer)["build-system"]["requires"], sep="\n")' <pyproject.toml)
    step 'installing the build tools' "${pip[@]}" "${requires[@]}"
    step 'installing the Python packages' "${pip[@]}" --no-build-isolation --editable '.[dev]'
    fingerprint >"$stamp.new"
    ((EUID != 0)) || chown -R --reference=. .venv # under sudo: the checkout's owner may remake it
    mv "$stamp.new" "$stamp"
}

make_venv() {
    rm -rf --one-file-system .venv && /usr/bin/python3 -m venv --system-site-packages .venv
}

# The tests ask Prometheus' own tool what it thinks of metrics and rules. In Debian 12 its package is the server's, which
# would come along, so only the tool is taken out of it.
has_promtool() {
    [ "$verb" != test ] || [ -x .venv/bin/promtool ]
}

fetch_promtool() {
    local place=$here/.lab/promtool
    rm -rf "$place" && mkdir -p "$place"
    (cd "$place" && { apt-get download -q promtool || apt-get download -q prometheus; }) ||
        { apt-get update -q && (cd "$place" && { apt-get download -q promtool || apt-get download -q prometheus; }); }
    dpkg-deb --fsys-tarfile "$place"/prom*.deb | tar -x -C "$place" ./usr/bin/promtool
    mv "$place/usr/bin/promtool" .venv/bin/
    rm -rf "$place"
}

# ensure PACKAGE...: the packages and the environment are there when this returns. Costs some 30 ms when they were.
ensure() {
    local lacking
    if [ -z "$(missing "$@")" ] && fresh && has_promtool && ! holds_servers; then
        return
    fi
    mkdir -p .lab 2>/dev/null || true
    [ -w .lab ] || die 6 "$here/.lab does not belong to you. Run: sudo ./lab $verb"
    ((EUID != 0)) || chown --reference=. .lab
    exec 9<.lab # its lock is inherited by what installs, so a killed run's apt or pip is waited for too
    flock -n 9 || step 'waiting for another ./lab that installs' flock -w 1800 9
    rm -f "$log"
    mapfile -t lacking < <(missing "$@")
    if [ ${#lacking[@]} != 0 ]; then
        ((EUID == 0)) || die 6 "not installed: ${lacking[*]}. Installing them needs root. Run: sudo ./lab $verb"
        install_packages "${lacking[@]}"
    fi
    ((EUID != 0)) || release_servers
    fresh || make_environment
    has_promtool || step 'fetching promtool' fetch_promtool
    exec 9>&-
    say "ready after $SECONDS s"
}
