#!/usr/bin/env bash
# Acceptance run: pilb-fast between real clients (curl, ws, wrk, oha) and real servers (nginx, Node, python3 -m http.server).
#
#   loadtest/real_peers.sh [--quick] [--seconds N]
#
#   --quick      small sizes and short runs, for CI: under a minute
#   --seconds N  how long the slow downloads and uploads are watched (60; with --quick 7)
#   PILB=PATH    the program (target/release/pilb-fast)
#
# Prints a table of checks with figures; exit 1 if one failed. A program that is not installed skips its checks. Everything runs on
# free ports and in a temporary folder; only processes that were started here are ended.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
pilb=${PILB:-$here/../target/release/pilb-fast}
quick=
seconds=
while (($#)); do
    case $1 in
    --quick) quick=1 ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift ;;
    *) sed -n '2,11p' "$0" | cut -c3-; exit 2 ;;
    esac
    shift
done
if [[ $quick ]]; then
    seconds=${seconds:-7} upload=$((64 << 20)) load=2s messages=14
else
    seconds=${seconds:-60} upload=$((1 << 30)) load=10s messages=70
fi
most_kib=$((32 * 1024))
[[ -x $pilb ]] || { echo "no $pilb: run 'cargo build --release', or set PILB" >&2; exit 2; }
pilb=$(realpath "$pilb")
ulimit -n "$(ulimit -Hn)" 2>/dev/null

folder=$(mktemp -d)
# nginx, started by root, reads as nobody.
chmod 711 "$folder"
declare -A pid=()
finish() {
    trap - EXIT INT TERM
    # nginx has a worker that goes with its master only if it is asked nicely.
    [[ ${pid[nginx]:-} ]] && kill -QUIT "${pid[nginx]}" 2>/dev/null && sleep 0.2
    for name in "${!pid[@]}"; do kill -KILL "${pid[$name]}" 2>/dev/null; done
    wait 2>/dev/null
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM

# ---- the table

failed=0
row() { printf '%-6s %-46s %s\n' "$1" "$2" "$3"; }
pass() { row ok "$1" "$2"; }
fail() { row FAILED "$1" "$2"; failed=$((failed + 1)); }
skip() { row - "$1" "skipped: $2"; }
# check NAME FIGURE COMMAND...: passes if the command does.
check() {
    local name=$1 figure=$2
    shift 2
    if "$@"; then pass "$name" "$figure"; else fail "$name" "$figure"; fi
}
have() { command -v "$1" >/dev/null; }

# ---- programs

# line FILE PATTERN: waits until the file has a line with it, and prints what the pattern's group holds.
line() {
    local found
    for _ in {1..500}; do
        found=$(sed -nE "s/.*$2.*/\1/p" "$1" 2>/dev/null | head -n 1)
        [[ $found ]] && { echo "$found"; return; }
        sleep 0.02
    done
    echo "nothing like '$2' in $1:" >&2
    cat "$1" >&2
    exit 1
}

# proxy NAME ARGS...: starts one; its port goes to ${port[NAME]}, its log to NAME/register.log.
declare -A port=()
proxy() {
    local name=$1
    shift
    mkdir -p "$folder/$name"
    (cd "$folder/$name" && exec "$pilb" --listen 127.0.0.1:0 "$@" 2>"$folder/$name/stderr") &
    pid[$name]=$!
    port[$name]=$(line "$folder/$name/stderr" 'listening on 127\.0\.0\.1:([0-9]+)') || exit 1
}

# stop NAME: has it end in good order; $status is its exit status.
stop() {
    kill -TERM "${pid[$1]}"
    wait "${pid[$1]}" 2>/dev/null
    status=$?
    unset "pid[$1]"
}

url() { echo "http://127.0.0.1:${port[$1]}$2"; }
# rss NAME, peak NAME: KiB now, KiB at the most.
rss() { awk '/^VmRSS/ {print $2}' "/proc/${pid[$1]}/status"; }
# Without the pages of the program's file, of which a busy time reads some more: the system can drop those.
own() { awk '/^RssAnon/ {print $2}' "/proc/${pid[$1]}/status"; }
peak() { awk '/^VmHWM/ {print $2}' "/proc/${pid[$1]}/status"; }
mib() { awk -v kib="$1" 'BEGIN {printf "%.1f MiB", kib / 1024}'; }

mkdir -p "$folder/www" "$folder/node"
echo small >"$folder/www/small.txt"
head -c 100000 /dev/urandom | base64 >"$folder/www/text.txt"
head -c 5000000 /dev/urandom >"$folder/www/random.bin"
truncate -s 5G "$folder/www/huge.bin"
: >"$folder/www/empty"
echo '<h1>home</h1>' >"$folder/www/index.html"

upstreams=()
if have nginx; then
    # It cannot say which port it got, so it is told one, until one is free.
    for _ in {1..10}; do
        port[nginx]=$(shuf -i 20000-60000 -n 1)
        sed "s|FOLDER|$folder|; s|PORT|${port[nginx]}|" "$here/real/nginx.conf" >"$folder/nginx.conf"
        nginx -c "$folder/nginx.conf" -e "$folder/nginx.log" 2>/dev/null &
        pid[nginx]=$!
        for _ in {1..100}; do
            [[ $(curl -s "$(url nginx /who)") == nginx ]] && upstreams+=(nginx) && break 2
            kill -0 "${pid[nginx]}" 2>/dev/null || break
            sleep 0.05
        done
        unset 'pid[nginx]'
    done
fi
start_node() {
    NODE_PATH=$folder/node/node_modules node "$here/real/server.js" >"$folder/$1.out" 2>&1 &
    pid[$1]=$!
    port[$1]=$(line "$folder/$1.out" 'port ([0-9]+)') || exit 1
}
ws=
if have node; then
    if have npm; then
        (cd "$folder/node" && npm install --silent --no-audit --no-fund --no-save ws >/dev/null 2>&1) && ws=1
    fi
    start_node node
    upstreams+=(node)
fi
if have python3; then
    (cd "$folder/www" && exec python3 -u -m http.server --bind 127.0.0.1 0 >"$folder/python.out" 2>/dev/null) &
    pid[python]=$!
    port[python]=$(line "$folder/python.out" 'port ([0-9]+)') || exit 1
    upstreams+=(python)
fi
((${#upstreams[@]})) || { echo "no server is installed: nginx, node or python3" >&2; exit 2; }

all=()
for name in "${upstreams[@]}"; do
    proxy "to-$name" --upstream "127.0.0.1:${port[$name]}"
    all+=(--upstream "127.0.0.1:${port[$name]}")
done
proxy to-all "${all[@]}"
echo "$("$pilb" --version), between $(curl --version | head -n 1 | cut -d' ' -f1-2) and: ${upstreams[*]}"
echo

# ---- the same answer as without the proxy

# What must be the same: the status, the fields that describe the content, the content. Without a body to frame, or in HTTP/1.0, which the
# proxy never speaks to a server, a length may be there or not.
answer() {
    local out without='^$'
    : >"$folder/body"
    [[ " $* " == *' --http1.0 '* ]] && without='^content-length'
    out=$(curl -sS --max-time 20 -D "$folder/head" -o "$folder/body" "$@" 2>&1) || echo "curl: $out"
    sed -n '1s/^HTTP[^ ]* //p' "$folder/head" | tr -d '\r'
    grep -iE '^(content-(type|length|range|encoding)|etag|last-modified|location|accept-ranges|allow|x-server):' "$folder/head" |
        tr -d '\r' | tr '[:upper:]' '[:lower:]' | sed 's/boundary=.*/boundary/' | grep -vE "$without" | sort
    # After HEAD curl writes the head there.
    [[ " $* " == *' --head '* ]] || sha256sum <"$folder/body"
}
same() {
    local name=$1 path=$2 direct through
    shift 2
    direct=$(answer "$@" "$(url "$name" "$path")")
    through=$(answer "$@" "$(url "to-$name" "$path")")
    if [[ $direct == "$through" ]]; then
        same_count=$((same_count + 1))
    else
        same_wrong+=", not [$* $path]"
        { echo "$name: $* $path"; diff <(echo "$direct") <(echo "$through"); } >>"$folder/different"
    fi
}
for name in "${upstreams[@]}"; do
    same_count=0 same_wrong=
    case $name in
    node) paths=(/who /json /stream /none) ;;
    *) paths=(/ /small.txt /text.txt /random.bin /empty /none) ;;
    esac
    # Node's /json shows the request's own fields, which the proxy adds to.
    for path in "${paths[@]}"; do
        if [[ $path != /json ]]; then
            same "$name" "$path"
            same "$name" "$path" --http1.0
        fi
        same "$name" "$path" --head
        same "$name" "$path" -H 'Connection: close' --head
    done
    if [[ $name != node ]]; then
        for range in 0-0 100-199 -500 4999999- 0-; do same "$name" /random.bin -r "$range"; done
        same "$name" /random.bin -H 'Range: bytes=9999999-'
        same "$name" /text.txt -H 'If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT'
        same "$name" /text.txt -X POST -d x
    fi
    if [[ $name == nginx ]]; then
        same nginx /text.txt --compressed
        same nginx /old
        same nginx /text.txt -H "If-None-Match: $(curl -sI "$(url nginx /text.txt)" | tr -d '\r' | sed -n 's/^ETag: //p')"
        same nginx /random.bin -H 'Range: bytes=0-9,20-29' --head
    fi
    [[ $name == node ]] && same node /sink -X PUT -d 'some content'
    check "same answers as without the proxy: $name" "$same_count requests$same_wrong" test -z "$same_wrong"
done
[[ -s $folder/different ]] && sed 's/^/       /' "$folder/different"

count=$((${#upstreams[@]} * 10))
statuses=$(for _ in $(seq $count); do curl -s -o /dev/null -w '%{http_code}\n' "$(url to-all /)"; done | sort | uniq -c | xargs)
# The last lines of the log are written a moment later.
sleep 0.3
shares=$(grep -oE 'upstream=[^ ]+' "$folder/to-all/register.log" | sort | uniq -c | awk '{print $1}' | xargs)
# Each worker has a rotation of its own, so that no server is more than one per worker ahead.
uneven=$(tr ' ' '\n' <<<"$shares" | awk -v n="${#upstreams[@]}" -v cores="$(nproc)" '{bad += $1 < 10 - cores || $1 > 10 + cores} END {print bad + (NR != n)}')
check "shared out evenly" "$shares; statuses $statuses" test "$uneven $statuses" = "0 $count 200"

# ---- uploads

if have node; then
    sent=$({ head -c "$upload" /dev/urandom | tee /dev/fd/3 |
        curl -sS --max-time 300 -T - "$(url to-node /sink)" >"$folder/sink.out"; } 3> >(sha256sum | cut -d' ' -f1 >"$folder/sum") 2>&1)
    for _ in {1..100}; do [[ -s $folder/sum ]] && break; sleep 0.05; done
    got=$(cat "$folder/sink.out")
    check "chunked upload from a pipe, checksum" "$((upload >> 20)) MiB $sent" \
        test "$got" = "{\"bytes\":$upload,\"sha256\":\"$(cat "$folder/sum")\"}"

    curl -sS -v --max-time 20 -H 'Expect: 100-continue' --data-binary "@$folder/www/random.bin" "$(url to-node /sink)" \
        >"$folder/expect.out" 2>"$folder/expect.err"
    expected=$(sha256sum <"$folder/www/random.bin" | cut -d' ' -f1)
    continued=$(grep -c '^< HTTP/1.1 100' "$folder/expect.err")
    # curl waits a second for the 100 and then says so.
    waited=$(grep -ci 'Done waiting for 100' "$folder/expect.err")
    check "Expect: 100-continue" "100 received: $continued" \
        test "$continued $waited $(grep -c "$expected" "$folder/expect.out")" = '1 0 1'
else
    skip "uploads" "no node"
fi

# ---- WebSocket

if [[ $ws ]]; then
    figure=$(NODE_PATH=$folder/node/node_modules timeout 120 node "$here/real/ws_client.js" "${port[to-node]}" "$messages" 2>&1)
    check "WebSocket echo with ws, 8 clients" "$figure" test $? = 0
else
    skip "WebSocket echo with ws" "no node, or npm could not install ws"
fi

# ---- load

# errors FILE: what wrk complains about, in one number.
errors() {
    awk '/Socket errors:/ {gsub(",", ""); sum += $4 + $6 + $8 + $10} /Non-2xx/ {sum += $NF} END {print sum + 0}' "$1"
}
rate() { awk '/Requests\/sec/ {printf "%d req/s", $2}' "$1"; }
# Lines of a log whose exchange ended badly by somebody else's fault than the server's or the load generator's end.
blamed() {
    awk '!/^#/ && $4 !~ /^(done|client-|upstream-(refused|connect-timeout|closed|reset|timeout|read-timeout|write-timeout|truncated)|bad-response)/' \
        "$1" | wc -l
}
wrk_run() { wrk -t 2 -c "$1" -d "$load" --timeout 10s "$2" >"$folder/wrk.out" 2>&1; }

declare -A settled=()
if have wrk; then
    for name in nginx node; do
        [[ ${pid[$name]:-} ]] || continue
        path=/who
        [[ $name == nginx ]] && path=/small.txt
        for connections in 64 1000; do
            before=$(rss "to-$name")
            wrk_run "$connections" "$(url "to-$name" "$path")"
            figure="$(rate "$folder/wrk.out"), $(errors "$folder/wrk.out") errors, RSS $(mib "$before") to $(mib "$(rss "to-$name")")"
            good=$(awk '/requests in/ {print $1}' "$folder/wrk.out")
            ((connections == 64)) && settled[$name]=$(own "to-$name")
            check "wrk, $connections connections, $name" "$figure" test "$(errors "$folder/wrk.out")" = 0 -a "${good:-0}" -gt 100
        done
    done
    # Python's server takes one connection at a time from a queue of five: it fails under load, and the log must say that it was it.
    wrk_run 64 "$(url to-all /)"
    sleep 0.3
    wrong=$(blamed "$folder/to-all/register.log")
    figure="$(rate "$folder/wrk.out"), $(errors "$folder/wrk.out") answers other than 2xx, $wrong of them not the servers'"
    check "wrk, 64 connections, all servers" "$figure" test "$wrong" = 0
else
    skip "wrk" "not installed"
fi
if have oha && [[ ${pid[nginx]:-} ]]; then
    for connections in 64 1000; do
        oha --no-tui -c "$connections" -z "$load" "$(url to-nginx /small.txt)" >"$folder/oha.out" 2>&1
        ok_only=$(awk '/Status code distribution/ {on = 1; next} /distribution/ {on = 0} on && NF && !/\[200\]/ {bad++} END {print bad + 0}' \
            "$folder/oha.out")
        # What is under way when the time is over is aborted by oha itself.
        broken=$(awk '/Error distribution/ {on = 1; next} on && NF && !/aborted due to deadline/ {bad++} END {print bad + 0}' "$folder/oha.out")
        check "oha, $connections connections, nginx" "$(awk '/Requests\/sec/ {printf "%d req/s", $2}' "$folder/oha.out")" \
            test "$ok_only$broken" = 00
    done
else
    skip "oha" "not installed"
fi

# ---- meanwhile: idle connections that the server is about to close

if have node; then
    node "$here/real/idle_race.js" "${port[to-node]}" "$seconds" 5 >"$folder/race.out" 2>&1 &
    pid[race]=$!
fi

# ---- memory while somebody is slow

if [[ ${pid[nginx]:-} ]]; then
    proxy slow-client --workers 1 --upstream "127.0.0.1:${port[nginx]}"
    curl -s --limit-rate 1M --max-time "$seconds" -o /dev/null -w '%{size_download}' "$(url slow-client /huge.bin)" >"$folder/taken" &
    pid[reader]=$!
fi
if have node; then
    proxy slow-server --workers 1 --upstream "127.0.0.1:${port[node]}"
    given=$(curl -s --max-time "$seconds" -T - -o /dev/null -w '%{size_upload}' "$(url slow-server /slow-sink)" </dev/zero)
    figure="$((given >> 20)) MiB in $seconds s, peak RSS $(mib "$(peak slow-server)")"
    check "endless upload to a server that reads 1 MB/s" "$figure" test "$(peak slow-server)" -lt "$most_kib" -a "$given" -gt 1000000
else
    skip "endless upload to a server that reads 1 MB/s" "no node"
fi
if [[ ${pid[nginx]:-} ]]; then
    wait "${pid[reader]}"
    unset 'pid[reader]'
    taken=$(cat "$folder/taken")
    figure="$((taken >> 20)) MiB of 5 GiB in $seconds s, peak RSS $(mib "$(peak slow-client)")"
    check "client that reads 1 MB/s" "$figure" test "$(peak slow-client)" -lt "$most_kib" -a "$taken" -gt 1000000
    # The whole of it as fast as it goes; a tenth of it with --quick.
    end=5368709119
    [[ $quick ]] && end=536870911
    read -r taken speed < <(curl -s -r "0-$end" -o /dev/null -w '%{size_download} %{speed_download}\n' "$(url slow-client /huge.bin)")
    figure="$((taken >> 20)) MiB, $((speed / 1000000)) MB/s, peak RSS $(mib "$(peak slow-client)")"
    check "client that reads as fast as it can" "$figure" test "$taken" = $((end + 1)) -a "$(peak slow-client)" -lt "$most_kib"
else
    skip "slow and fast clients" "no nginx"
fi
if have node; then
    wait "${pid[race]}"
    check "POSTs around Node's keep-alive timeout" "$(cat "$folder/race.out")" test $? = 0
    unset 'pid[race]'
else
    skip "POSTs around Node's keep-alive timeout" "no node"
fi

# ---- a server that is killed under load

if have wrk && have node && [[ ${pid[nginx]:-} ]]; then
    start_node victim
    disown "${pid[victim]}"
    proxy killed --upstream "127.0.0.1:${port[nginx]},127.0.0.1:${port[victim]}"
    (sleep 1; kill -KILL "${pid[victim]}") &
    killer=$!
    wrk_run 64 "$(url killed /who)"
    wait "$killer"
    unset 'pid[victim]'
    during=$(errors "$folder/wrk.out")
    sleep 0.3
    wrong=$(blamed "$folder/killed/register.log")
    requests=$(awk '/requests in/ {print $1}' "$folder/wrk.out")
    # At most what was under way when it died.
    check "kill -9 of one of two servers under wrk" "$during of $requests failed, $wrong not by the server's fault" \
        test "$during" -le 64 -a "$wrong" = 0
    wrk_run 64 "$(url killed /who)"
    check "and afterwards" "$(errors "$folder/wrk.out") errors, $(rate "$folder/wrk.out")" test "$(errors "$folder/wrk.out")" = 0
else
    skip "kill -9 of a server under load" "needs wrk, node and nginx"
fi

# ---- the end

# The buffers of a thousand connections are needed no more; those of 64, and the log's ring, may stay.
for name in "${!settled[@]}"; do
    now=$(own "to-$name")
    check "memory of 1000 connections given back, $name" "$(mib "${settled[$name]}") with 64, $(mib "$now") now (all at the peak: $(mib "$(peak "to-$name")"))" \
        test "$now" -lt $((settled[$name] + 5120))
done
for name in to-all killed; do
    [[ ${pid[$name]:-} ]] || continue
    stop "$name"
    lines=$(grep -vc '^#' "$folder/$name/register.log")
    totals=$(line "$folder/$name/stderr" 'access log: ([0-9]+ written, [0-9]+ lost)')
    written=${totals%% *}
    check "SIGTERM: exit 0, the log's totals are right ($name)" "exit $status, $totals, $lines lines" \
        test "$status $written" = "0 $lines"
done

echo
if ((failed)); then
    echo "$failed checks failed"
    exit 1
fi
echo "all checks passed"
