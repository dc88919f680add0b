#!/bin/sh
# scratch.sh BUILD PROGRAM ARGS…: runs a test with a folder of its own as TMPDIR, and removes it however the test ends, with every process
# that the test has left behind.  meson test starts all tests by it (tests/meson.build).
#
# Who removes it is a process in a session of its own, which waits for the end of this one: a runner that loses patience kills us, our
# group, and not it.  Of a test that failed it keeps the ends of the logs: BUILD/failed/NAME-PID/, of the last twenty.
set -u

# What is left of the test's processes knows its folder by its environment.
strays() {
	grep -lsxz "TMPDIR=$folder" /proc/[0-9]*/environ | sed 's|/proc/\([0-9]*\)/environ|\1|'
}

keep_logs() {
	logs=$(find "$folder" -name '*.log' -type f -size +0 2>/dev/null | head -n 64)
	[ -n "$logs" ] || return 0
	mkdir -p "$kept"
	echo "$logs" | while read -r log; do
		tail -c 65536 "$log" >"$kept/$(echo "${log#"$folder"/}" | tr / -)"
	done
}

if [ "$1" = --sweep ]; then
	folder=$2 kept=$3
	read -r _ # nobody writes: the end of who holds the other end
	for process in $(strays); do kill -9 "$process" 2>/dev/null; done
	[ -e "$folder/.passed" ] || keep_logs
	find "${kept%/*}" -mindepth 1 -maxdepth 1 -printf '%T@ %p\n' 2>/dev/null | sort -rn | sed 1,20d | cut -d" " -f2- | xargs -r rm -rf
	rm -rf "$folder"
	exit 0
fi

build=$1
shift
name=$1
for word in "$@"; do
	case $word in *.py) name=$word && break ;; esac
done
folder=$(mktemp -d /tmp/baton-test-XXXXXX) || exit 1
mkfifo "$folder/.over" || exit 1
setsid "$0" --sweep "$folder" "$build/failed/$(basename "$name")-$$" <"$folder/.over" >/dev/null 2>&1 &
exec 9>"$folder/.over"
status=0
TMPDIR=$folder "$@" 9>&- || status=$?
case $status in 0 | 77) : >"$folder/.passed" ;; esac
exit $status
