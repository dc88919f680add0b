#!/bin/sh
# run.sh TARGET CORPUS LONGEST: fuzzes for $FUZZ_SECONDS (60), then one line: executions, their rate, coverage, crashes.
# What is found new goes to a folder of the build, and a crash is kept beside it, to be added to the corpus with its fix.
set -u
name=$(basename "$1")
found=$(dirname "$1")/$name.found
mkdir -p "$found"
dictionary="$2.dict"
log=$found.log
[ -f "$dictionary" ] && dictionary="-dict=$dictionary" || dictionary=
# shellcheck disable=SC2086
"$1" -max_total_time="${FUZZ_SECONDS:-60}" -max_len="$3" -timeout=20 -rss_limit_mb=4096 -print_final_stats=1 \
	-artifact_prefix="$found-" $dictionary "$found" "$2" >"$log" 2>&1
status=$?
executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
coverage=$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$log" | tail -1)
echo "$name: ${executions:-?} executions, ${rate:-?}/s, coverage ${coverage:-?}, crashes $([ $status = 0 ] && echo 0 || echo 1)"
[ $status = 0 ] || tail -40 "$log"
exit $status
