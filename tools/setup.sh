#!/bin/sh
# Brings this machine and a build folder to where Baton can run; quick when there is nothing to do.
#   tools/setup.sh FOLDER [meson options…]
set -eu
cd "$(dirname "$0")/.."
folder=$1
shift
missing=$(tools/deps.sh missing)
if [ -n "$missing" ]; then
	echo "installing with apt-get: $missing"
	if [ "$(id -u)" = 0 ]; then sudo=; else sudo=sudo; fi
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/tmp/baton-apt.log 2>&1 ||
		{ tail -20 /tmp/baton-apt.log; exit 1; }
fi
if [ ! -f "$folder/build.ninja" ]; then
	echo "configuring $folder"
	meson setup "$folder" "$@" >"/tmp/baton-meson.log" 2>&1 || { cat /tmp/baton-meson.log; exit 1; }
fi
echo "building in $folder"
if [ -t 1 ]; then
	ninja -C "$folder"
else
	ninja -C "$folder" >"$folder/build.log" 2>&1 || { tail -40 "$folder/build.log"; exit 1; }
	tail -1 "$folder/build.log"
fi
