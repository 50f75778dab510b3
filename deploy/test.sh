#!/usr/bin/env bash
# The deployment for real, on one machine: four Debian roots, set up by the very user-data of aws/pilb.yaml (and so by setup.sh), in four
# network namespaces with the addresses that the four EC2 instances have; then requests, a cut cable, a rotated log, the end.
#
#   deploy/test.sh [--base DIR] [--package FILE]
#
#   --base DIR      where the bare Debian root is, or is to be kept for the next time (else it is made anew: 30 s)
#   --package FILE  what package.sh made (else it is made from target/release)
#
# Needs root, debootstrap, ip, unshare, nsenter, curl; strace and systemd-analyze for the check of the units' system calls. There is no
# systemd inside: this script does what the units say (command line, settings, user, capabilities, folders). All happens in namespaces of
# its own: when it ends, however it ends, processes, mounts and networks are gone. One line per check; exit 1 if one failed.
# shellcheck disable=SC2016 # scripts for awk, sed and other shells are in single quotes
set -euo pipefail
deploy=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "test.sh: $*" >&2
    exit 2
}

# --- outside: the package and the bare root

prepare() {
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
    for program in debootstrap ip unshare nsenter curl; do
        [ "$(command -v $program)" ] || fail "no $program: apt-get install $program (ip is iproute2, unshare and nsenter are util-linux)"
    done
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    [ "$package" ] || { package=$work/pilb.tar.gz; "$deploy/package.sh" "$package" > /dev/null; }
    base=${base:-$work/base}
    [ -e "$base/.complete" ] || "$deploy/bare_root.sh" "$base" logrotate
    unshare --net --mount --uts --ipc --pid --fork --kill-child --mount-proc "$0" --inside "$(realpath "$base")" "$package" "$work" &
    # With the first process in there goes everything.
    trap 'kill -KILL $!' INT TERM
    wait $!
}

# --- inside: checks

failed=0
began=$SECONDS
# check WHAT COMMAND...: one line.
check() {
    local what=$1
    shift
    if "$@"; then echo "ok $what"; else echo "FAILED $what"; failed=1; fi
}
is() { [ "$1" = "$2" ] || { printf '   is:        %s\n   should be: %s\n' "$1" "$2"; return 1; }; }
at_most() { awk -v is="$1" -v most="$2" 'BEGIN { exit !(is <= most) }' || { echo "   is $1, should be at most $2"; return 1; }; }

# --- inside: four machines on a switch

machines=(proxy origin-1 origin-2 origin-3)
declare -A address=([proxy]=10.77.0.10 [origin-1]=10.77.1.11 [origin-2]=10.77.1.12 [origin-3]=10.77.1.13)
declare -A pid=()
url=http://${address[proxy]}/

root() { echo "$work/$1"; }
# on MACHINE COMMAND...: in its network and its root.
on() { nsenter --net="/run/netns/$1" chroot "$(root "$1")" "${@:2}"; }
service() { [ "$1" = proxy ] && echo pilb-fast || echo pilb-origin; }

# The switch is this script's own network; the client sits on it.
build_network() {
    mount -t tmpfs tmpfs /run
    ip link set lo up
    ip link add switch type bridge
    ip addr add 10.77.0.1/16 dev switch
    ip link set switch up
    local machine
    for machine in "${machines[@]}"; do
        ip netns add "$machine"
        ip link add "$machine" type veth peer name eth0 netns "$machine"
        ip link set "$machine" master switch up
        ip -n "$machine" addr add "${address[$machine]}/16" dev eth0
        ip -n "$machine" link set eth0 up
        ip -n "$machine" link set lo up
    done
}

build_root() {
    local at=$work/$1 layer=$work/layers/$1
    mkdir -p "$at" "$layer/upper" "$layer/work"
    mount -t overlay overlay -o "lowerdir=$base,upperdir=$layer/upper,workdir=$layer/work" "$at"
    mount -t proc proc "$at/proc"
    mkdir -p "$at/run/package" "$at/opt/aws/amazon-cloudwatch-agent/bin"
    cp "$package" "$at/run/package/pilb.tar.gz"
    # Stand-ins for what only EC2 has: the bucket hands out the package, the others write down what they were asked.
    local stand_in
    for stand_in in curl dnf systemctl ../../../opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl; do
        printf '#!/bin/sh\necho "${0##*/} $*" >> /run/asked\n' > "$at/usr/local/bin/$stand_in"
    done
    printf '#!/bin/sh\n[ "$1 $2 $4" = "s3 cp s3://bucket/pilb.tar.gz" ] && cp /run/package/pilb.tar.gz "$5"\n' > "$at/usr/local/bin/aws"
    chmod 755 "$at"/usr/local/bin/* "$at"/opt/aws/amazon-cloudwatch-agent/bin/*
}

# The script in the template, with the values that CloudFormation would put in.
user_data() {
    awk '/^ *Fn::Sub: \|$/ { match($0, /^ */); outer = RLENGTH; on = 1; next }
         on && /[^ ]/ { match($0, /^ */); if (RLENGTH <= outer) exit }
         on { print substr($0, outer + 3) }' "$deploy/aws/pilb.yaml" |
        sed -e "s|\${PackageUrl}|s3://bucket/pilb.tar.gz|; s|\${PackageSha256}|$sum|; s|\${OriginEndpoints}|yes|" \
            -e 's|${LogGroup}|the-log-group|; s|${Ready}|https://ready.example/|'
}

set_up() {
    local machine said
    user_data > "$work/user-data"
    ! grep -n '\${' "$work/user-data" || fail "the template's user-data has a value that this test does not know: see above"
    for machine in "${machines[@]}"; do
        build_root "$machine"
        cp "$work/user-data" "$(root "$machine")/run/user-data"
        said=$(on "$machine" sh /run/user-data 2>&1) || echo "$said"
        check "$machine: the template's user-data installs $(service "$machine"), and tells CloudFormation and the agent of the logs" \
            told "$machine" "$said"
    done
}
told() {
    local asked
    asked=$(cat "$(root "$1")/run/asked")
    [[ $2 == *"is installed as $(service "$1");"* && $asked == *'"Status":"SUCCESS","UniqueId":"'"${address[$1]}"'"'* &&
        $asked == *amazon-cloudwatch-agent-ctl*file:/opt/pilb/agent.json* && $asked != *FAILURE* ]] || { echo "$2"; echo "$asked"; return 1; }
}

# Once more by hand, as on a machine that is none of EC2's.
set_up_again() {
    local said
    again() { on origin-1 env PILB_URL=file:///run/package/pilb.tar.gz PILB_SHA256="$1" sh /opt/pilb/pilb/deploy/setup.sh origin --name "$2" "${@:3}" 2>&1; }
    said=$(again "$sum" origin-1 || echo failed)
    check "setup.sh again, from PILB_URL: nothing changes" is "$said" "$(on origin-1 /usr/local/bin/pilb-origin --version) is installed as pilb-origin; systemd does not run here, so it is not started"
    said=$(if again "${sum/[0-8]/9}" origin-1; then echo 'it went on'; fi)
    check "setup.sh refuses a package with another sum" test -z "${said##*nothing was installed}"
    echo '# mine' >> "$(root origin-1)/etc/pilb/origin.env"
    said=$(again "$sum" origin-1 --listen 0.0.0.0:8181)
    check "setup.sh with another value: that line is new, what others wrote stays" \
        is "$said $(grep -c -e '^# mine$' -e '^PILB_LISTEN=0.0.0.0:8181$' "$(root origin-1)/etc/pilb/origin.env")" \
        "installed /etc/pilb/origin.env"$'\n'"$(on origin-1 /usr/local/bin/pilb-origin --version) is installed as pilb-origin; systemd does not run here, so it is not started 2"
    again "$sum" origin-1 > /dev/null
    said=$(again "$sum" 'origin 1;reboot' || true)
    check "setup.sh refuses a name that would break the settings file" is "${said%% has*}" "setup.sh: --name 'origin 1;reboot'"
}

# --- inside: what systemd would do

# unit MACHINE KEY: the value in the installed unit.
unit() { sed -n "s/^$2=//p" "$(root "$1")/etc/systemd/system/$(service "$1").service" | tail -n 1; }

# Sets `line` to the command line of ExecStart: ${NAME} is one argument, $NAME as many as it has words.
command_line() {
    local -A settings=()
    local key value word
    while IFS='=' read -r key value; do
        value=${value#\"}
        settings[$key]=${value%\"}
    done < <(grep -E '^[A-Z_]+=' "$(root "$1")$(unit "$1" EnvironmentFile)")
    line=()
    for word in $(unit "$1" ExecStart); do
        case $word in
            '${'*'}') word=${word#'${'}; line+=("${settings[${word%'}'}]}") ;;
            '$'*) read -ra value <<< "${settings[${word#'$'}]}"; line+=("${value[@]}") ;;
            *) line+=("$word") ;;
        esac
    done
}

# start MACHINE [WRAPPER...]
start() {
    local machine=$1 at user kind capabilities line
    at=$(root "$machine") user=$(unit "$machine" User)
    command_line "$machine"
    for kind in Logs:log Cache:cache; do
        [ "$(unit "$machine" "${kind%:*}Directory")" ] || continue
        on "$machine" install -d -o "$user" -g "$user" -m "$(unit "$machine" "${kind%:*}DirectoryMode")" \
            "/var/${kind#*:}/$(unit "$machine" "${kind%:*}Directory")"
    done
    capabilities=$(unit "$machine" AmbientCapabilities)
    capabilities=-all${capabilities:+,+$(echo "${capabilities#CAP_}" | tr '[:upper:]' '[:lower:]')}
    : > "$work/$machine.err"
    (
        umask "$(unit "$machine" UMask)"
        ulimit -n "$(unit "$machine" LimitNOFILE)" 2> /dev/null || true
        exec "${@:2}" nsenter --net="/run/netns/$machine" chroot "$at" setpriv --reuid="$user" --regid="$user" --clear-groups --no-new-privs \
            --inh-caps="$capabilities" --ambient-caps="$capabilities" --bounding-set="$capabilities" "${line[@]}" 2> "$work/$machine.err"
    ) &
    pid[$machine]=$!
    for _ in $(seq 200); do
        ! grep -q ' ready: ' "$work/$machine.err" || return 0
        [ -e "/proc/${pid[$machine]}" ] || break
        sleep 0.05
    done
    echo "${line[*]}"
    cat "$work/$machine.err"
    return 1
}

rights() {
    local machine status user found='' expected=''
    for machine in "${machines[@]}"; do
        status=$(< "/proc/${pid[$machine]}/status")
        user=$(on "$machine" id -u "$(service "$machine")")
        [ "$machine" = proxy ] && expected+="$user 0000000000000400 1;" || expected+="$user 0000000000000000 1;"
        found+="$(awk '/^Uid:/ { uid = $3 } /^CapEff:/ { cap = $2 } /^NoNewPrivs:/ { print uid, cap, $2 }' <<< "$status");"
    done
    is "$found" "$expected"
}

# --- inside: requests

# On one connection, so that one worker and its rotation serve them all: who answered.
ask() {
    local list=()
    for _ in $(seq "$1"); do list+=("$url"); done
    curl -sS --max-time 30 "${list[@]}" | sed -n 's|^<title>\(.*\)</title>$|\1|p' | tr '\n' ' '
}

# Requests, each on its own connection: begin (seconds after now), status, duration, who answered.
client() {
    local until=$1 begin
    while begin=$(now) && awk -v a="$begin" -v b="$until" 'BEGIN { exit !(a < b) }'; do
        curl -s --max-time 30 -w "#$begin %{http_code} %{time_total}\n" "$url" |
            awk '/^<title>/ { gsub(/<[^>]*>/, ""); who = $0 } /^#/ { print substr($0, 2), who == "" ? "-" : who }'
        sleep 0.05
    done
}
# lines FILE COUNT: waits for them, as logs are written in batches.
lines() {
    for _ in $(seq 60); do
        [ ! -e "$1" ] || [ "$(wc -l < "$1")" -lt "$2" ] || return 0
        sleep 0.05
    done
}
now() { awk -v a="$EPOCHREALTIME" -v b="$zero" 'BEGIN { printf "%.3f", a - b }'; }
# count FILE CONDITION: the requests for which the condition on begin ($1), status ($2), duration ($3) and who ($4) holds.
count() { awk "$2 { n++ } END { print n + 0 }" "$1"; }
longest() { awk "$2 && \$3 > most { most = \$3 } END { print most + 0 }" "$1"; }
# From the settings: how long connecting may take, and an answer.
option() { sed -n "s/.*--$1 \([0-9]*\)s.*/\1/p" "$(root proxy)/etc/pilb/fast.env"; }

requests() {
    local answered expected machine peers log
    answered=$(ask 9)
    expected=${answered%% *}
    case $expected in
        origin-1) expected='origin-1 origin-2 origin-3 ' ;;
        origin-2) expected='origin-2 origin-3 origin-1 ' ;;
        *) expected='origin-3 origin-1 origin-2 ' ;;
    esac
    check "round robin: 9 requests to $url: $answered" is "$answered" "$expected$expected$expected"
    for machine in "${machines[@]:1}"; do
        log=$(root "$machine")/var/log/pilb-origin/access.log
        lines "$log" 3
        peers=$(cut -d ' ' -f 2 "$log" | sort | uniq -c | xargs)
        check "$machine, ${address[$machine]}: 3 requests, from the proxy's address" is "$peers" "3 ${address[proxy]}"
    done
}

caches() {
    local machine text folders=''
    for machine in "${machines[@]:1}"; do
        text=$(root "$machine")/srv/www/text.txt
        for _ in $(seq 3000); do echo "a line of $machine"; done > "$text"
        chmod 644 "$text"
    done
    sleep 0.5 # of a file that may still be being written nothing is kept
    # Once around, and after what was made has been written down, once more.
    : > "$work/heads"
    for _ in 1 2; do
        curl -sS --compressed --max-time 30 -D - -o /dev/null "${url}text.txt?{1,2,3}" >> "$work/heads"
        sleep 0.5
    done
    check "6 compressed answers, the first of each origin made, the second from its cache" \
        is "$(tr -d '\r' < "$work/heads" | awk '/^HTTP/ && n++ { print how } /^HTTP/ { how = "made" } tolower($1) == "cache-status:" && /; *hit/ { how = "hit" } END { print how }' | xargs)" \
        'made made made hit hit hit'
    for machine in "${machines[@]:1}"; do
        folders+="$(on "$machine" stat -c '%U %a' /var/cache/pilb-origin) $(find "$(root "$machine")/var/cache/pilb-origin" -type f | wc -l);"
    done
    check "each has its own cache folder, for itself alone (owner, mode, files): $folders" grep -qxE '(pilb-origin 700 [1-9][0-9]*;){3}' <<< "$folders"
}

# The cable of origin-2 is pulled while nothing goes on, and put back.
cut_idle() {
    local answered file=$work/idle zero=$EPOCHREALTIME connect
    connect=$(option upstream-connect-timeout)
    sleep 5 # no connection to an origin is kept that long
    ip link set origin-2 down
    zero=$EPOCHREALTIME
    client 8 > "$file"
    check "origin-2 cut off while idle: $(count "$file" 1) requests, errors: $(count "$file" '$2 != 200'), by origin-2: $(count "$file" '$4 == "origin-2"'), longest: $(longest "$file" 1) s" \
        is "$(count "$file" '$2 != 200') $(count "$file" '$4 == "origin-2"')" '0 0'
    check "none waits longer than for one connection ($connect s)" at_most "$(longest "$file" 1)" "$connect.5"
    ip link set origin-2 up
    back
}

# The proxy finds its neighbour again by itself; how long that takes is printed.
back() {
    local answered='' zero=$EPOCHREALTIME
    until [[ $answered == *origin-2*origin-2* ]] || awk -v a="$(now)" 'BEGIN { exit !(a > 15) }'; do answered=$(ask 6); done
    check "origin-2 back: it answers again, after $(now) s: $answered" test "$(tr ' ' '\n' <<< "$answered" | grep -c origin-2)" = 2
}

# Four clients, for so many seconds, into FILE.1 to .4; `clients` are their processes.
four_clients() {
    local number
    clients=()
    for number in 1 2 3 4; do
        client "$2" > "$1.$number" & clients+=($!)
    done
}

# The program of origin-3 dies under load, and is started again.
killed_under_load() {
    local file=$work/killed zero=$EPOCHREALTIME clients
    four_clients "$file" 8
    sleep 1.5
    kill -KILL "${pid[origin-3]}"
    { wait "${pid[origin-3]}" || true; } 2> /dev/null # bash would report it
    sleep 1
    start origin-3
    wait "${clients[@]}"
    cat "$file".[1-4] > "$file"
    check "origin-3 killed under load and started again: $(count "$file" 1) requests, errors: $(count "$file" '$2 != 200'), by origin-3 $(count "$file" '$4 == "origin-3" && $1 < 1.5') before and $(count "$file" '$4 == "origin-3" && $1 >= 2.5') after" \
        is "$(count "$file" '$2 != 200') $(count "$file" '$4 == "origin-3" && $1 >= 2.5' | sed 's/[1-9].*/some/')" '0 some'
}

# The same with four clients under way. A connection that is kept warm to a server that vanished is found out only by its answer that does
# not come: such a request, and none that comes later, gets a 504.
cut_under_load() {
    local file=$work/load zero=$EPOCHREALTIME clients response connect early late
    response=$(option upstream-response-timeout) connect=$(option upstream-connect-timeout)
    four_clients "$file" 20
    sleep 2
    local cut
    ip link set origin-2 down
    cut=$(now)
    wait "${clients[@]}"
    cat "$file".[1-4] > "$file"
    ip link set origin-2 up
    # Connections that nobody uses are closed after 4 s, those in use when their answer is overdue.
    early="\$1 + \$3 >= $cut && \$1 < $cut + 4" late="\$1 >= $cut + 4"
    echo "-- origin-2 cut off under load: before $(count "$file" "\$1 + \$3 < $cut") requests; of $(count "$file" "$early") begun until 4 s after it $(count "$file" "$early && \$2 != 200") failed ($(awk "$early && \$2 != 200 { print \$2 }" "$file" | sort | uniq -c | xargs)), longest $(longest "$file" "$early") s"
    check "before the cut no error" is "$(count "$file" "\$1 + \$3 < $cut && \$2 != 200")" 0
    check "at the cut nobody fails but who was on a warm connection: each client at most once, with 504" \
        at_most "$(count "$file" "$early && \$2 != 200")" 4
    check "nobody waits longer than $response s for an answer, and $connect s for a connection" at_most "$(longest "$file" 1)" "$((response + connect)).5"
    check "after that $(count "$file" "$late") requests, errors: $(count "$file" "$late && \$2 != 200"), longest: $(longest "$file" "$late") s" \
        is "$(count "$file" "$late && \$2 != 200")" 0
    back
}

# --- inside: the log, the units' filter, the end

rotate() {
    local log before after
    log=$(root proxy)/var/log/pilb/register.log
    # systemd's part, once more.
    printf '#!/bin/sh\n[ "$*" = "kill --signal=USR1 pilb-fast.service" ] && kill -USR1 %s\n' "${pid[proxy]}" > "$(root proxy)/usr/local/bin/systemctl"
    ask 6 > /dev/null
    sleep 0.3
    before=$(wc -l < "$log")
    on proxy logrotate --force /etc/logrotate.d/pilb-fast
    lines "$log" 0
    ask 6 > /dev/null
    lines "$log" 6
    after=$(grep -c ' 200 done ' "$log")
    check "logrotate: $before lines in register.log.1, then 6 in the new one, for its owner only" \
        is "$(wc -l < "$log.1") $after $(stat -c %a "$log")" "$before 6 600"
}

# What a name of SystemCallFilter= stands for.
calls() {
    local name
    for name in "$@"; do
        case $name in
            @*) mapfile -t members < <(systemd-analyze syscall-filter "$name" | sed -n 's/^    \([a-z@0-9_].*\)/\1/p'); calls "${members[@]}" ;;
            *) echo "$name" ;;
        esac
    done
}

# The filter cannot be put into force without systemd, but what the programs call can be compared with it.
filter() {
    local machine trace used allowed words value
    if ! command -v strace > /dev/null || ! command -v systemd-analyze > /dev/null; then
        echo "-- system calls: left out (strace and systemd-analyze are needed)"
        return
    fi
    head -c 3000000 /dev/zero > "$(root origin-1)/srv/www/large"
    chmod 644 "$(root origin-1)/srv/www/large"
    for machine in origin-1 proxy; do start "$machine" strace -f -qq -o "$work/$machine.trace"; done
    ask 9 > /dev/null
    curl -sS --compressed -o /dev/null --max-time 30 "${url}{large,large,large,text.txt,text.txt,text.txt}"
    kill -USR1 "$(< "/proc/${pid[proxy]}/task/${pid[proxy]}/children")"
    sleep 0.3
    for machine in proxy origin-1; do end "$machine" "$(< "/proc/${pid[$machine]}/task/${pid[$machine]}/children")"; done
    for machine in proxy origin-1; do
        trace=$work/$machine.trace
        used=$(awk '/execve\("\/usr\/local\/bin\/pilb/ { on = 1 } on { print $2 }' "$trace" | sed -n 's/^\([a-z_0-9]*\)(.*/\1/p' | sort -u)
        allowed=''
        while read -ra words; do
            if [[ ${words[0]} == '~'* ]]; then
                value=$(calls "${words[@]/#\~/}" | sort -u)
                allowed=$(comm -23 <(echo "$allowed") <(echo "$value"))
            else
                allowed=$( (echo "$allowed"; calls "${words[@]}") | sort -u)
            fi
        done < <(sed -n 's/^SystemCallFilter=//p' "$(root "$machine")/etc/systemd/system/$(service "$machine").service")
        check "$(service "$machine") makes $(wc -l <<< "$used") different system calls, its unit allows $(wc -l <<< "$allowed"), among them those" \
            is "$(comm -23 <(echo "$used") <(echo "$allowed") | xargs)" ''
    done
}

# end MACHINE [PID]: TERM, and how it ended.
end() {
    kill -TERM "${2:-${pid[$1]}}"
    wait "${pid[$1]}"
}

inside() {
    base=$1 package=$2 work=$3
    sum=$(sha256sum "$package" | cut -d ' ' -f 1)
    work=$work/machines
    mkdir "$work"
    # Gone with this namespace.
    mount -t tmpfs tmpfs "$work"
    build_network
    set_up
    set_up_again
    for machine in origin-1 origin-2 origin-3 proxy; do
        check "$machine starts by its unit's command line" start "$machine"
    done
    check "each as its own user, without capabilities but for the proxy's port 80" rights
    requests
    caches
    cut_idle
    killed_under_load
    cut_under_load
    rotate
    echo "-- the last lines of the proxy's register.log"
    tail -n 6 "$(root proxy)/var/log/pilb/register.log"
    for machine in proxy "${machines[@]:1}"; do
        check "$machine ends on TERM with 0" end "$machine"
    done
    filter
    if ((failed)); then echo "FAILED, in $((SECONDS - began)) s"; else echo "all ok, in $((SECONDS - began)) s"; fi
    exit $failed
}

if [ "${1:-}" = --inside ]; then inside "${@:2}"; else prepare "$@"; fi
