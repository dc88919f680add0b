#!/bin/sh
# nvcc.sh OBJECT NVCC ARGUMENT...: compiles; what ptxas says of registers, shared memory and spills stays in OBJECT.txt.
# A kernel whose wgmma the compiler makes wait for each other (C75xx), or that spills over 64 bytes
# of registers a thread, is an error.
set -u
object=$1
shift
"$@" >"$object.txt" 2>&1
status=$?
bad=$(grep -E '\(C75[0-9]+\)|(6[5-9]|[7-9][0-9]|[1-9][0-9][0-9]+) bytes spill stores' "$object.txt")
if [ $status != 0 ] || [ -n "$bad" ]; then
	grep -vE '^ptxas info +: (Used|Compiling|Function properties|[0-9]+ bytes gmem)|bytes stack frame' "$object.txt"
	echo "$bad"
	[ $status != 0 ] || rm -f "$object"
	exit 1
fi
