#!/bin/sh
# The packages Baton needs on Debian 12: one list for ./quickstart, ./check and the container image.
#   tools/deps.sh list          print them
#   tools/deps.sh missing       print those not installed
set -eu
BUILD="gcc g++ meson ninja-build pkg-config ca-certificates
	libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libprotobuf-dev
	libgrpc++-dev protobuf-compiler-grpc libucx-dev libibverbs-dev libevent-dev libssl-dev libpcre2-dev
	libutf8proc-dev libjansson-dev liburing-dev libxxhash-dev libfyaml-dev zlib1g-dev"
RUN="etcd-server curl python3"
TEST="libcmocka-dev python3-venv python3-pip iproute2 nftables etcd-client binutils universal-ctags"
case "${1:-list}" in
list) echo $BUILD $RUN $TEST ;;
missing)
	for p in $BUILD $RUN $TEST; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q "install ok installed" || printf '%s ' "$p"
	done ;;
esac
