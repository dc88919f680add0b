#!/bin/sh
# run.sh PYTHON TEST ARGS…: skips (77) where ./check has not made the virtual environment yet.
[ -x "$1" ] || { echo "no $1: ./check makes it"; exit 77; }
exec "$@"
