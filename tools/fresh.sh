#!/bin/sh
# ./check --fresh: Baton on a fresh Debian 12, for real: debootstrap into a folder, a copy of this checkout in it, then
# ./quickstart twice and ./check there.  Needs root, debootstrap and the package network.
set -eu
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "needs root (debootstrap, chroot)"; exit 1; }
command -v debootstrap >/dev/null || apt-get install -y -qq debootstrap
root=${BATON_FRESH_DIR:-/var/tmp/baton-fresh}
case "$root" in /?*) ;; *) echo "BATON_FRESH_DIR must be absolute"; exit 1 ;; esac
umount_all() { for d in proc sys dev/shm dev; do mountpoint -q "$root/$d" && umount "$root/$d" || true; done; }
trap umount_all EXIT
trap 'exit 1' INT TERM
umount_all
rm -rf "$root"
# The mirror and its settings are this machine's own.
mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) bookworm main.*/\2/p; s/^URIs: *\([^ ]*\).*/\1/p' \
	/etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -1)
echo "debootstrap into $root"
debootstrap --variant=minbase bookworm "$root" ${mirror:+"$mirror"} >"$root.log" 2>&1 || { tail -5 "$root.log"; exit 1; }
cp -a /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d "$root/etc/apt/" 2>/dev/null || true
[ -d /etc/apt/trusted.gpg.d ] && cp -a /etc/apt/trusted.gpg.d "$root/etc/apt/" || true
cp /etc/resolv.conf /etc/hosts "$root/etc/"
for file in /etc/pip.conf /root/.config/pip/pip.conf /root/.pip/pip.conf; do
	[ -f "$file" ] && install -D "$file" "$root$file" || true
done
# This machine's certificate authorities, beside those that the chroot installs for itself.
mkdir -p "$root/etc/ssl" && cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/host-ca.crt" 2>/dev/null || true
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind /dev/shm "$root/dev/shm"
mount --bind /sys "$root/sys"
mkdir -p "$root/src"
git archive HEAD | tar -x -C "$root/src"
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
	PIP_CERT=/etc/ssl/host-ca.crt \
	$(env | grep -iE '^(https?_proxy|no_proxy|PIP_INDEX_URL|PIP_EXTRA_INDEX_URL)=' || true) sh -c "cd /src && $1"; }
inside ./quickstart
begin=$(date +%s)
inside ./quickstart
echo "second quickstart: $(($(date +%s) - begin)) s"
begin=$(date +%s)
inside ./check | tee "$root.check"
echo "./check: $(($(date +%s) - begin)) s"
inside ./check >"$root.check2" && tail -1 "$root.check2"
[ "$(tail -1 "$root.check")" = "$(tail -1 "$root.check2")" ] || { echo "the two totals differ"; exit 1; }
