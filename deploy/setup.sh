#!/bin/sh
# Makes this machine a proxy or an origin: programs, user, settings, service, log rotation. May be run again, with other values too;
# what is as it should be stays, and a service is restarted only if something of it changed.
#
#   setup.sh proxy  --origins HOST:PORT,HOST:PORT,... [--listen ADDRESS]
#   setup.sh origin --name NAME [--listen ADDRESS] [--root DIR]
#
#   --listen ADDRESS  where to accept clients; 0.0.0.0:80 for a proxy, 0.0.0.0:8080 for an origin
#   --name NAME       what the first page calls this origin; only used where the root has no index.html
#   --root DIR        the files to serve (/srv/www)
#   --package DIR     the unpacked package; without it the one that this script lies in, or else that of PILB_URL
#
#   PILB_URL          a package (.tar.gz made by package.sh): https://, http://, s3://, file:// or a path
#   PILB_SHA256       its SHA-256; needed with PILB_URL
#
# Needs root, and Linux with systemd 247 or later: Debian 12 and 13, Ubuntu 22.04 and 24.04, Amazon Linux 2023. Where systemd does not run (a
# container, an image that is being made) everything is installed and nothing started.
set -eu

fail() {
    echo "setup.sh: $*" >&2
    exit 1
}

usage() {
    sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"
}

wrong() {
    echo "setup.sh: $*; see setup.sh --help" >&2
    exit 2
}

# --- what is wanted

[ $# -gt 0 ] || wrong "say what this machine is: proxy or origin"
role=$1
shift
case $role in
    proxy) service=pilb-fast env=fast.env listen=0.0.0.0:80 ;;
    origin) service=pilb-origin env=origin.env listen=0.0.0.0:8080 ;;
    -h | --help) usage && exit 0 ;;
    *) wrong "'$role' is neither proxy nor origin" ;;
esac
origins='' name='' root=/srv/www package=''
while [ $# -gt 0 ]; do
    case $1 in -h | --help) usage && exit 0 ;; esac
    [ $# -gt 1 ] || wrong "$1 needs a value"
    case $role:$1 in
        proxy:--origins) origins=$2 ;;
        origin:--name) name=$2 ;;
        origin:--root) root=$2 ;;
        *:--listen) listen=$2 ;;
        *:--package) package=$2 ;;
        *) wrong "$role has no option '$1'" ;;
    esac
    shift 2
done

# The values stand in a file that systemd and this script read: no character that means something to either of them.
plain() {
    case $2 in
        '') wrong "$1 needs a value" ;;
        *[!]A-Za-z0-9.,:/@_[-]*) wrong "$1 '$2' has a character that cannot stand in a settings file" ;;
    esac
}
plain --listen "$listen"
if [ "$role" = proxy ]; then
    [ "$origins" ] || wrong "name the origins: --origins 10.0.0.1:8080,10.0.0.2:8080"
    plain --origins "$origins"
else
    [ "$name" ] || wrong "give this origin a name: --name origin-1"
    plain --name "$name"
    plain --root "$root"
fi
[ "$(id -u)" = 0 ] || fail "needs root: run it with sudo"

# --- the package

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

fetch() {
    case $1 in
        s3://*)
            command -v aws > /dev/null || fail "no aws command to fetch $1 with: install the AWS CLI, or give PILB_URL as https://"
            aws s3 cp --only-show-errors "$1" "$2"
            ;;
        http://* | https://*)
            if command -v curl > /dev/null; then
                curl -fsSL --retry 5 -o "$2" "$1"
            elif command -v wget > /dev/null; then
                wget -q -O "$2" "$1"
            else
                fail "neither curl nor wget to fetch $1 with: install one of them"
            fi
            ;;
        file://*) cp "${1#file://}" "$2" ;;
        *) cp "$1" "$2" ;;
    esac
}

here=$(cd "$(dirname "$0")" && pwd)
if [ -z "$package" ]; then
    if [ "${PILB_URL:-}" ]; then
        [ "${PILB_SHA256:-}" ] || fail "PILB_URL without PILB_SHA256: give the sum that package.sh printed"
        fetch "$PILB_URL" "$scratch/pilb.tar.gz" || fail "cannot fetch $PILB_URL: see the line above"
        sum=$(sha256sum "$scratch/pilb.tar.gz" | cut -d ' ' -f 1)
        [ "$sum" = "$PILB_SHA256" ] || fail "$PILB_URL has the SHA-256 $sum, not $PILB_SHA256: nothing was installed"
        tar -xzf "$scratch/pilb.tar.gz" -C "$scratch" || fail "$PILB_URL cannot be unpacked: make it with package.sh"
        package=$scratch/pilb
    else
        package=$(dirname "$here")
    fi
fi
[ -f "$package/bin/$service" ] || fail "no $package/bin/$service: give the unpacked package (--package DIR), or PILB_URL and PILB_SHA256"
version=$("$package/bin/$service" --version) ||
    fail "$package/bin/$service does not run here: it must be built for $(uname -m) and a C library no newer than this system's"

# --- into the system

changed=''

# put FROM TO MODE: a file as it should be. Renamed into place, as a running program cannot be overwritten.
put() {
    cmp -s "$1" "$2" && return
    mkdir -p "$(dirname "$2")"
    install -m "$3" "$1" "$2.new"
    mv -f "$2.new" "$2"
    changed=yes
    echo "installed $2"
}

# set FILE NAME VALUE: the line of a settings file. The others are the administrator's.
set_line() {
    awk -v name="$2" -v value="$3" '
        index($0, name "=") == 1 { print name "=" value; found = 1; next }
        { print }
        END { if (!found) print name "=" value }' "$1" > "$1.next"
    mv "$1.next" "$1"
}

if ! id "$service" > /dev/null 2>&1; then
    nologin=/usr/sbin/nologin
    [ -x $nologin ] || nologin=/sbin/nologin
    useradd --system --user-group --no-create-home --home-dir / --shell "$nologin" "$service"
    echo "made user $service"
fi

put "$package/bin/$service" "/usr/local/bin/$service" 755
put "$package/deploy/systemd/$service.service" "/etc/systemd/system/$service.service" 644

settings=/etc/pilb/$env
cp "$package/deploy/systemd/$env" "$scratch/$env"
if [ -f "$settings" ]; then cp "$settings" "$scratch/$env"; fi
set_line "$scratch/$env" PILB_LISTEN "$listen"
if [ "$role" = proxy ]; then
    set_line "$scratch/$env" PILB_UPSTREAMS "$origins"
else
    set_line "$scratch/$env" PILB_ROOT "$root"
fi
put "$scratch/$env" "$settings" 644

restart=$changed
put "$package/deploy/logrotate/$service" "/etc/logrotate.d/$service" 644
command -v logrotate > /dev/null || echo "setup.sh: logrotate is not installed: install it, or the access log grows for ever" >&2

if [ "$role" = origin ] && [ ! -e "$root/index.html" ]; then
    mkdir -p "$root"
    cat > "$root/index.html" << PAGE
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>$name</title>
<h1>$name</h1>
<p>This is $name, an origin of PILB. Put your files into $root on that machine.</p>
</html>
PAGE
    chmod 755 "$root"
    chmod 644 "$root/index.html"
    echo "made $root/index.html"
fi

# --- running

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable --quiet "$service"
    # A first start, or one with what is new; else nobody's request is disturbed.
    # Whether it fails at once or a moment later: the line below says so.
    if [ "$restart" ]; then systemctl restart "$service" || true; else systemctl start "$service" || true; fi
    # A wrong option or a taken port ends it within a moment.
    sleep 1
    systemctl is-active --quiet "$service" || fail "$service does not run: see journalctl -u $service"
    echo "$version runs as $service, listening on $listen"
else
    # What `systemctl enable` does, so that an image made with this starts it.
    mkdir -p /etc/systemd/system/multi-user.target.wants
    ln -sf "/etc/systemd/system/$service.service" "/etc/systemd/system/multi-user.target.wants/$service.service"
    echo "$version is installed as $service; systemd does not run here, so it is not started"
fi
