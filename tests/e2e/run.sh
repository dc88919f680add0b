#!/bin/sh
# run.sh PYTHON TEST ARGS…: skips (77) where ./check has not made the virtual environment yet.
# Under a sanitizer all processes that the test starts write their reports into one folder, and a report fails the test.
[ -x "$1" ] || { echo "no $1: ./check makes it"; exit 77; }
[ -n "${BATON_TEST_SLOW:-}" ] || exec "$@"
reports=$(mktemp -d "${TMPDIR:-/tmp}/reports-XXXXXX")
export BATON_TEST_REPORTS="$reports"
export ASAN_OPTIONS="$ASAN_OPTIONS:log_path=$reports/asan" UBSAN_OPTIONS="$UBSAN_OPTIONS:log_path=$reports/ubsan"
export TSAN_OPTIONS="$TSAN_OPTIONS:log_path=$reports/tsan"
status=0
"$@" || status=$?
if [ -n "$(ls -A "$reports")" ]; then
	echo "sanitizer reports, in $reports:"
	head -qn 120 "$reports"/* | head -n 1000
	rm -rf "$reports"
	exit 1
fi
rmdir "$reports"
exit $status
