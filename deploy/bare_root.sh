#!/bin/sh
# Makes a bare root of this machine's own release, from where this machine gets its packages; for the tests here.
#
#   bare_root.sh DIR PACKAGE[,PACKAGE...]
set -eu
# shellcheck source=/dev/null
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="$release" '$2 == release && $3 == "main" { print $1; exit }')
if [ -z "$site" ]; then
    echo "bare_root.sh: apt has no source for $release on this machine: run apt-get update" >&2
    exit 1
fi
rm -rf "$1"
mkdir -p "$1"
if ! debootstrap --variant=minbase --include="$2" "$release" "$1" "$site" > "$1.log" 2>&1; then
    tail -n 5 "$1.log" >&2
    echo "bare_root.sh: debootstrap failed: see above" >&2
    exit 1
fi
rm "$1.log"
touch "$1/.complete"
