#!/usr/bin/env bash
# The units under a real systemd: boots a Debian root in a container without network, where setup.sh makes one machine a proxy and its
# origin. What test.sh cannot show: that setup.sh starts and restarts what it should, and that both programs work inside their sandboxes.
#
#   deploy/boot_test.sh [--base DIR] [--package FILE]
#
#   --base DIR      where the bare root with systemd is, or is to be kept for the next time (else it is made anew: a minute)
#   --package FILE  what package.sh made (else it is made from target/release)
#
# Needs root, debootstrap, unshare, systemd-nspawn (systemd-container). One line per check; exit 1 if one failed.
# shellcheck disable=SC2016
set -euo pipefail
deploy=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "boot_test.sh: $*" >&2
    exit 2
}

# --- outside

outside() {
    [ "$(id -u)" = 0 ] || fail "needs root, for namespaces and mounts: run it with sudo"
    local program base='' package=''
    while (($#)); do
        case $1 in
            --base) base=${2:?--base needs a folder} ;;
            --package) package=$(realpath "${2:?--package needs a file}") ;;
            *) sed -n '2,/^# shellcheck/s/^# \{0,1\}//p' "$0" | sed '$d'; exit 2 ;;
        esac
        shift 2
    done
    for program in debootstrap unshare systemd-nspawn; do
        [ "$(command -v $program)" ] || fail "no $program: apt-get install $program (systemd-nspawn is systemd-container)"
    done
    work=$(mktemp -d)
    group=pilb-boot-$$
    trap 'leave; rm -rf "$work"' EXIT
    [ "$package" ] || { package=$work/pilb.tar.gz; "$deploy/package.sh" "$package" > /dev/null; }
    base=${base:-$work/base}
    [ -e "$base/.complete" ] || "$deploy/bare_root.sh" "$base" logrotate,systemd,systemd-sysv,dbus
    cp -a "$base" "$work/root"
    mkdir -p "$work/root/opt/pilb"
    tar -xzf "$package" -C "$work/root/opt/pilb"
    cp "$0" "$work/root/opt/boot_test.sh"
    printf '%s\n' '[Unit]' 'After=multi-user.target' '[Service]' 'Type=oneshot' 'ExecStart=/opt/boot_test.sh --inside' \
        'ExecStopPost=systemctl --no-block poweroff' > "$work/root/etc/systemd/system/checks.service"
    mkdir -p "$work/root/etc/systemd/system/multi-user.target.wants"
    ln -s ../checks.service "$work/root/etc/systemd/system/multi-user.target.wants/"
    boot
    cat "$work/root/checks" || { tail -n 20 "$work/console"; fail "the container did not come to its checks: see above"; }
    grep -q '^all ok' "$work/root/checks"
}

boot() {
    local own=()
    # Without a systemd around it, nspawn is to ask none, and gets a control group that can be removed.
    if [ ! -d /run/systemd/system ]; then own=(--register=no --keep-unit); enter; fi
    trap 'kill -TERM $!' INT TERM
    timeout --kill-after=5 120 unshare --net --mount sh -c 'mount -t tmpfs tmpfs /run && exec systemd-nspawn "$@"' - \
        "${own[@]}" --quiet --private-network --directory="$work/root" --machine=pilb-boot --boot < /dev/null > "$work/console" 2>&1 &
    while ! wait $!; do [ -e "/proc/$!" ] || break; done
}

groups() { for at in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do [ ! -e "$at/cgroup.procs" ] || echo "$at"; done; }
enter() { for at in $(groups); do mkdir "$at/$group"; echo $$ > "$at/$group/cgroup.procs"; done; }
leave() {
    for at in $(groups); do
        [ -d "$at/$group" ] || continue
        echo $$ > "$at/cgroup.procs"
        find "$at/$group" -depth -type d -exec rmdir {} +
    done
}

# --- inside, as a service of the container

failed=0
check() {
    local what=$1
    shift
    if "$@"; then echo "ok $what"; else echo "FAILED $what"; failed=1; fi
}
is() { [ "$1" = "$2" ] || { printf '   is:        %s\n   should be: %s\n' "$1" "$2"; return 1; }; }
pid() { systemctl show -P MainPID "$1"; }
status() { awk -v name="$2:" '$1 == name { print $NF }' "/proc/$(pid "$1")/status"; }

# get PATH [FIELD]: an answer of the proxy.
get() {
    exec 3<> /dev/tcp/127.0.0.1/80
    printf 'GET %s HTTP/1.1\r\nHost: here\r\nConnection: close\r\n%s\r\n' "$1" "${2:+$2$'\r\n'}" >&3
    cat <&3
}
first_line() { get "$@" | head -n 1 | tr -d '\r'; }

# until COMMAND...: 5 s at most.
until_true() { for _ in $(seq 100); do ! "$@" || return 0; sleep 0.05; done; return 1; }

inside() {
    exec > /checks 2>&1
    cd /opt/pilb/pilb/deploy
    local before said user folder
    check "setup.sh starts the origin" grep -q 'runs as pilb-origin' <<< "$(./setup.sh origin --name origin-1 2>&1)"
    check "setup.sh starts the proxy" grep -q 'runs as pilb-fast' <<< "$(./setup.sh proxy --origins 127.0.0.1:8080 2>&1)"
    check "the origin's page through the proxy's port 80" grep -q '<title>origin-1</title>' <<< "$(get /)"
    before=$(pid pilb-fast)
    ./setup.sh proxy --origins 127.0.0.1:8080 > /dev/null
    check "setup.sh again: nobody is disturbed" is "$(pid pilb-fast)" "$before"
    ./setup.sh proxy --origins 127.0.0.1:8080,127.0.0.2:8080 > /dev/null
    check "setup.sh with another origin: the proxy was restarted" test "$(pid pilb-fast)" != "$before"
    check "both are enabled" is "$(systemctl is-enabled pilb-fast pilb-origin | xargs)" 'enabled enabled'

    for user in pilb-fast pilb-origin; do
        [ $user = pilb-fast ] && before=0000000000000400 || before=0000000000000000
        check "$user: own user, its capabilities, a filter of system calls, nothing to gain" \
            is "$(stat -c %U "/proc/$(pid $user)") $(status $user CapEff) $(status $user CapBnd) $(status $user Seccomp) $(status $user NoNewPrivs)" \
            "$user $before $before 2 1"
        for folder in /usr /etc /srv; do
            check "$user: $folder cannot be written to" grep -q 'Read-only' <<< "$(touch "/proc/$(pid $user)/root$folder/x" 2>&1)"
        done
    done
    head -c 3000000 /dev/zero > /srv/www/large
    check "a large file comes whole through both sandboxes" test "$(get /large | wc -c)" -gt 3000000
    for _ in $(seq 3000); do echo 'a line'; done > /srv/www/text.txt
    sleep 0.5 # of a file that may still be being written nothing is kept
    get /text.txt 'Accept-Encoding: gzip' > /dev/null
    check "a compressed answer is kept in /var/cache/pilb-origin" until_true eval '[ "$(find /var/cache/pilb-origin/objects -type f)" ]'

    until_true grep -q large /var/log/pilb/register.log
    logrotate --force /etc/logrotate.d/pilb-fast
    until_true test -e /var/log/pilb/register.log
    get /after > /dev/null
    check "logrotate: the signal comes, the new register.log has the next request only" \
        is "$(sleep 0.3; grep -c . /var/log/pilb/register.log) $(grep -c /after /var/log/pilb/register.log)" '1 1'

    before=$(pid pilb-fast)
    kill -KILL "$before"
    check "killed, it is back" until_true eval '[ "$(systemctl is-active pilb-fast)" = active ] && [ "$(pid pilb-fast)" -gt 0 ] && [ "$(pid pilb-fast)" != '"$before"' ]'
    check "and serves" until_true eval '[ "$(first_line / 2> /dev/null)" = "HTTP/1.1 200 OK" ]'
    systemctl stop pilb-fast pilb-origin
    check "stopped cleanly" is "$(systemctl show -P Result pilb-fast pilb-origin | xargs)" 'success success'

    sed -i 's/^PILB_OPTIONS=.*/PILB_OPTIONS=--lisen/' /etc/pilb/fast.env
    systemctl start pilb-fast || true
    sleep 2
    check "a wrong option: it fails and is not tried again; the journal says: $(journalctl -q -o cat -u pilb-fast | grep -m 1 lisen)" \
        is "$(systemctl show -P NRestarts pilb-fast) $(systemctl show -P ExecMainStatus pilb-fast) $(systemctl is-failed pilb-fast)" '0 2 failed'
    said=$(./setup.sh proxy --origins 127.0.0.1:8080 2>&1 || true)
    check "setup.sh says so: $(tail -n 1 <<< "$said")" grep -q 'does not run: see journalctl -u pilb-fast' <<< "$said"
    ((failed)) || echo "all ok, in $SECONDS s"
}

if [ "${1:-}" = --inside ]; then inside; else outside "$@"; fi
