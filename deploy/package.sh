#!/bin/sh
# Packs the two programs and what setup.sh needs into a .tar.gz and prints its SHA-256.
#
#   deploy/package.sh [FILE]    target/pilb-VERSION-MACHINE.tar.gz if no file is named
#
# Needs `cargo build --release` (or loadtest/pgo) first. The programs run where the C library is not older than the newest symbol
# that they use (printed): glibc 2.34 is Amazon Linux 2023, Ubuntu 22.04 and Debian 12.
set -eu
deploy=$(cd "$(dirname "$0")" && pwd)
top=$(dirname "$deploy")
built=${CARGO_TARGET_DIR:-$top/target}/release
for program in pilb-fast pilb-origin; do
    [ -x "$built/$program" ] || { echo "package.sh: no $built/$program: run 'cargo build --release' first" >&2; exit 1; }
done
version=$("$built/pilb-fast" --version | cut -d ' ' -f 2)
file=${1:-$(dirname "$built")/pilb-$version-$(uname -m).tar.gz}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/pilb/bin" "$scratch/pilb/deploy/logrotate" "$scratch/pilb/deploy/systemd"
cp "$built/pilb-fast" "$built/pilb-origin" "$scratch/pilb/bin/"
cp "$deploy/setup.sh" "$scratch/pilb/deploy/"
cp "$deploy"/logrotate/* "$scratch/pilb/deploy/logrotate/"
cp "$deploy"/systemd/* "$scratch/pilb/deploy/systemd/"
cp "$top"/LICENSE-* "$scratch/pilb/"
# The same input makes the same file, and so the same sum.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$scratch" -cf - pilb | gzip -9n > "$file"

newest=$(grep -aoh 'GLIBC_2\.[0-9]*' "$scratch"/pilb/bin/* | sort -Vu | tail -n 1)
echo "$file: for $(uname -m), ${newest:-no C library}" >&2
sha256sum "$file"
